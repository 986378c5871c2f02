"""The half that averages: each round every node fits the same line to its own points, and the mean of their weights goes on."""

import array

import rollcall_app
from rollcall_app import NumberArray, OutgoingMessage

import linear


@rollcall_app.server
def main(grid, context):
    config = context.config
    context.log.info(f"averaging with {linear.ENGINE}, waiting for {config['min-nodes']} nodes")
    grid.nodes(min_count=config["min-nodes"])
    weights = [0.0] * linear.WEIGHTS
    rounds = []
    for number in range(1, config["rounds"] + 1):
        content = {
            "weights": array.array("d", weights),
            "examples": config["examples"],
            "rate": config["learning-rate"],
        }
        messages = [
            OutgoingMessage(node.id, "train", content, group=f"round {number}") for node in grid.nodes()
        ]
        trained = []
        for node, answer in answers_to(grid, messages, config["round-timeout"], context.log):
            if makes_sense(answer):
                trained.append(answer)
            else:
                context.log.warn(f"round {number}: node {node} is left out: its answer makes no sense")
        if not trained:
            raise RuntimeError(f"round {number}: no node could train")
        weights = linear.mean([(answer["weights"].array(), answer["examples"]) for answer in trained])
        loss = linear.mean([([answer["loss"]], answer["examples"]) for answer in trained])[0]
        rounds.append({"round": number, "loss": loss})
        context.log.info(f"round {number}/{config['rounds']}  loss {loss:.4f}  ({len(trained)} nodes)")
    return {"weights": weights, "rounds": rounds}


def makes_sense(answer):
    """What nodes say is not believed blindly."""
    weights, examples, loss = (answer.get(name) for name in ("weights", "examples", "loss"))
    if not isinstance(weights, NumberArray) or len(weights) != linear.WEIGHTS or not isinstance(examples, int):
        return False
    return examples > 0 and isinstance(loss, (int, float)) and linear.are_finite([loss, *weights])


def answers_to(grid, messages, timeout, log):
    for reply in grid.send_and_receive(messages, timeout=timeout):
        if reply.error:
            log.warn(f"node {reply.node} is left out: {reply.error}")
        else:
            yield reply.node, reply.content
