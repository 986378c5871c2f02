"""The half that learns. Its points are made up from the id of the node, and stay with it: only weights travel."""

import array

import rollcall_app

import linear


@rollcall_app.train
def train(message, context):
    content = message.content
    points = linear.make_points(int(context.node_id), content["examples"])
    weights = content["weights"].array()
    loss = linear.loss_of(weights, points)
    for step in range(20):
        if context.cancelled():
            break
        weights = linear.descend(weights, points, content["rate"])
        context.progress((step + 1) / 20)
    context.state["rounds"] = context.state.get("rounds", 0) + 1
    context.log.info(f"{message.group}: loss {loss:.4f} before, {linear.loss_of(weights, points):.4f} after")
    return {"weights": array.array("d", weights), "examples": len(points), "loss": loss}
