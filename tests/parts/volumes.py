"""What lies on a volume of the local server, and what others put there."""


def stored(server):
    """All files of the volume."""
    volume = server.volume("data")
    return server.do(
        lambda: {p: server.store.content(volume, p) for p, node in volume.nodes.items() if node.kind == 1}
    )


def plant(server, path, data, **more):
    volume = server.volume("data")
    return server.do(lambda: server.store.plant(volume, path, data, **more))
