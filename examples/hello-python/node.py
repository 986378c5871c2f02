import rollcall_app


@rollcall_app.query
def query(message, context):
    settings = ", ".join(f"{name}={value}" for name, value in context.node_config.items())
    greeting = message.content["greeting"]
    return {"answer": f"{greeting} from node {context.node_id}, which has {settings or 'no config'}"}
