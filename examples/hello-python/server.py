import rollcall_app
from rollcall_app import OutgoingMessage


@rollcall_app.server
def main(grid, context):
    content = {"greeting": context.config["greeting"]}
    messages = [OutgoingMessage(node.id, "query", content) for node in grid.nodes()]
    for reply in grid.send_and_receive(messages):
        if reply.error:
            context.log.warn(f"{reply.node} did not answer: {reply.error.message}")
        else:
            context.log.info(reply.content["answer"])
