"""A local server that speaks Modal's volume protocol: gRPC for names, HTTP for blocks, a store on disk.

It serves the product's tests and anyone who wants to try volumes without an account
(`scripts/modal-server DIR`). The vendor's own client and command line work against it unmodified.
"""

from tests.modal_server.faults import Faults, RpcFault
from tests.modal_server.server import ModalServer

__all__ = ["Faults", "ModalServer", "RpcFault"]
