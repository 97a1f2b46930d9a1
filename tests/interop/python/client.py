"""Uses Coffer as a Python service would: from the contract alone, with grpcio and generated stubs.

Prints one fact per line and exits 1 at the first check that fails.
"""

import hashlib
import os
import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from coffer.v1 import file_pb2, file_service_pb2, file_service_pb2_grpc, transfer_service_pb2, transfer_service_pb2_grpc

CHUNK_BYTES = 256 * 1024
# Not a multiple of the chunk, so that the last message is a short one.
SIZE_BYTES = 5 * 1024 * 1024 + 12_345
# Begins and ends inside chunks.
RANGE_OFFSET, RANGE_LENGTH = 1_000_003, 700_001
TIMEOUT_S = 60

DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.ResourceInfo)


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def pseudo_random(size):
    """The same bytes every time, without a period a wrong offset could hide behind."""
    return hashlib.shake_256(b"coffer interop python").digest(size)


def upload_messages(content, path):
    """The messages of one upload: the description with the first chunk, then chunks, the last with `finish`."""
    for offset in range(0, len(content), CHUNK_BYTES):
        message = transfer_service_pb2.WriteFileRequest(
            write_offset=offset,
            data=transfer_service_pb2.ChecksummedData(content=content[offset:offset + CHUNK_BYTES]),
        )
        if offset == 0:
            message.spec.path = path
            message.spec.mime_type = "application/x-interop"
            message.spec.tags.append("interop")
            message.spec.size_bytes = len(content)
        if offset + CHUNK_BYTES >= len(content):
            message.finish = True
            message.sha256 = hashlib.sha256(content).hexdigest()
        yield message


def show_refusal(name, call):
    """Makes a call that has to be refused, and prints what it carries."""
    try:
        call()
    except grpc.RpcError as error:
        print(f"{name}.code {error.code().name}")
        status = rpc_status.from_call(error)
        check(status is not None, f"{name} carries no google.rpc.Status")
        for any_detail in status.details:
            for kind in DETAILS:
                detail = kind()
                if any_detail.Is(kind.DESCRIPTOR):
                    any_detail.Unpack(detail)
                    show_detail(name, detail)
        return
    check(False, f"{name} was not refused")


def show_detail(name, detail):
    if isinstance(detail, error_details_pb2.ErrorInfo):
        print(f"{name}.reason {detail.reason}")
        print(f"{name}.domain {detail.domain}")
    elif isinstance(detail, error_details_pb2.BadRequest):
        for violation in detail.field_violations:
            print(f"{name}.field_violation {violation.field}: {violation.description}")
    elif isinstance(detail, error_details_pb2.ResourceInfo):
        print(f"{name}.resource_type {detail.resource_type}")


def main():
    channel = grpc.insecure_channel(os.environ["ADDR"])
    metadata = (("authorization", f"Bearer {os.environ['TOKEN']}"),)
    transfer = transfer_service_pb2_grpc.TransferServiceStub(channel)
    files = file_service_pb2_grpc.FileServiceStub(channel)

    folder = f"interop/python-{uuid.uuid4()}"
    path = f"{folder}/content.bin"
    content = pseudo_random(SIZE_BYTES)

    def write(messages):
        return transfer.WriteFile(messages, metadata=metadata, timeout=TIMEOUT_S)

    written = write(upload_messages(content, path))
    check(written.persisted_size == SIZE_BYTES, "persisted_size is the size sent")
    check(written.file.sha256 == hashlib.sha256(content).hexdigest(), "the service's SHA-256 is ours")
    print(f"upload.id {written.file.id}")
    print(f"upload.size_bytes {written.file.size_bytes}")
    print(f"upload.sha256 {written.file.sha256}")

    reference = file_pb2.FileReference(path=file_pb2.PathReference(path=path))
    answers = list(transfer.ReadFile(
        transfer_service_pb2.ReadFileRequest(file=reference, offset=RANGE_OFFSET, length=RANGE_LENGTH),
        metadata=metadata, timeout=TIMEOUT_S))
    first = answers[0].metadata
    check((first.offset, first.length) == (RANGE_OFFSET, RANGE_LENGTH), "the range announced is the range asked for")
    received = b"".join(answer.data.content for answer in answers[1:])
    check(received == content[RANGE_OFFSET:RANGE_OFFSET + RANGE_LENGTH], "the bytes of the range")
    print(f"read.offset {first.offset}")
    print(f"read.length {len(received)}")

    page = files.ListFiles(file_service_pb2.ListFilesRequest(path_prefix=f"{folder}/"), metadata=metadata, timeout=TIMEOUT_S)
    check([file.path for file in page.files] == [path], "the listing holds the file and nothing else")
    print(f"list.count {len(page.files)}")
    print(f"list.mime_type {page.files[0].mime_type}")

    show_refusal("bad_path", lambda: write(upload_messages(b"refused", "interop/../escape")))
    absent = file_pb2.FileReference(id=str(uuid.uuid4()))
    show_refusal("absent", lambda: files.GetFile(
        file_service_pb2.GetFileRequest(file=absent), metadata=metadata, timeout=TIMEOUT_S))
    show_refusal("no_token", lambda: files.GetFile(file_service_pb2.GetFileRequest(file=reference), timeout=TIMEOUT_S))
    print("passed")


if __name__ == "__main__":
    main()
