// Uses Coffer as a Go service would: from the contract alone, with grpc-go and generated stubs.
//
// Prints one fact per line and exits 1 at the first check that fails.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	coffer "coffer.example/interop/coffer/v1"
)

const (
	chunkBytes = 256 * 1024
	// Not a multiple of the chunk, so that the last message is a short one.
	sizeBytes = 5*1024*1024 + 12_345
	// Begins and ends inside chunks.
	rangeOffset, rangeLength = 1_000_003, 700_001
	timeout                  = 60 * time.Second
)

func check(holds bool, format string, args ...any) {
	if !holds {
		fmt.Fprintf(os.Stderr, "FAILED: "+format+"\n", args...)
		os.Exit(1)
	}
}

// write uploads content in chunks: the description with the first one, finish with the last.
func write(ctx context.Context, client coffer.TransferServiceClient, path string, content []byte) (*coffer.WriteFileResponse, error) {
	stream, err := client.WriteFile(ctx)
	if err != nil {
		return nil, err
	}
	size, digest := int64(len(content)), sha256.Sum256(content)
	for offset := 0; offset < len(content); offset += chunkBytes {
		end := min(offset+chunkBytes, len(content))
		message := &coffer.WriteFileRequest{WriteOffset: int64(offset), Data: &coffer.ChecksummedData{Content: content[offset:end]}}
		if offset == 0 {
			message.FirstMessage = &coffer.WriteFileRequest_Spec{Spec: &coffer.UploadSpec{
				Path: path, MimeType: "application/x-interop", Tags: []string{"interop"}, SizeBytes: &size,
			}}
		}
		if end == len(content) {
			message.Finish, message.Sha256 = true, hex.EncodeToString(digest[:])
		}
		// An error means the service has already answered; CloseAndRecv tells what.
		if stream.Send(message) != nil {
			break
		}
	}
	return stream.CloseAndRecv()
}

// read returns what the service announces and the bytes it sends.
func read(ctx context.Context, client coffer.TransferServiceClient, request *coffer.ReadFileRequest) (*coffer.ReadMetadata, []byte, error) {
	stream, err := client.ReadFile(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	var content []byte
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return first.Metadata, content, nil
		} else if err != nil {
			return nil, nil, err
		}
		content = append(content, answer.GetData().GetContent()...)
	}
}

// showRefusal prints what the error of a call that has to be refused carries.
func showRefusal(name string, err error) {
	check(err != nil, "%s was not refused", name)
	fmt.Printf("%s.code %s\n", name, code.Code(status.Code(err)))
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("%s.reason %s\n%s.domain %s\n", name, detail.Reason, name, detail.Domain)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Printf("%s.field_violation %s: %s\n", name, violation.Field, violation.Description)
			}
		case *errdetails.ResourceInfo:
			fmt.Printf("%s.resource_type %s\n", name, detail.ResourceType)
		}
	}
}

func main() {
	connection, err := grpc.NewClient(os.Getenv("ADDR"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err == nil, "address: %v", err)
	anonymous, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx := metadata.AppendToOutgoingContext(anonymous, "authorization", "Bearer "+os.Getenv("TOKEN"))
	transfer, files := coffer.NewTransferServiceClient(connection), coffer.NewFileServiceClient(connection)

	// The same bytes every time, without a period a wrong offset could hide behind.
	content := make([]byte, sizeBytes)
	rand.NewChaCha8([32]byte([]byte("coffer interop go, a fixed seed."))).Read(content)
	digest := sha256.Sum256(content)
	folder := fmt.Sprintf("interop/go-%d", time.Now().UnixNano())
	path := folder + "/content.bin"
	written, err := write(ctx, transfer, path, content)
	check(err == nil, "upload: %v", err)
	check(written.PersistedSize == sizeBytes && written.File.Sha256 == hex.EncodeToString(digest[:]), "what is stored is %v", written)
	fmt.Printf("upload.id %s\nupload.size_bytes %d\nupload.sha256 %s\n", written.File.Id, written.File.SizeBytes, written.File.Sha256)

	reference := &coffer.FileReference{By: &coffer.FileReference_Path{Path: &coffer.PathReference{Path: path}}}
	announced, received, err := read(ctx, transfer, &coffer.ReadFileRequest{File: reference, Offset: rangeOffset, Length: rangeLength})
	check(err == nil, "read: %v", err)
	check(announced.GetOffset() == rangeOffset && announced.GetLength() == rangeLength, "the range announced is %v", announced)
	check(bytes.Equal(received, content[rangeOffset:rangeOffset+rangeLength]), "the bytes of the range differ")
	fmt.Printf("read.offset %d\nread.length %d\n", announced.Offset, len(received))

	page, err := files.ListFiles(ctx, &coffer.ListFilesRequest{PathPrefix: folder + "/"})
	check(err == nil, "list: %v", err)
	check(len(page.Files) == 1 && page.Files[0].Path == path, "the listing is %v", page.Files)
	fmt.Printf("list.count %d\nlist.mime_type %s\n", len(page.Files), page.Files[0].MimeType)

	_, err = write(ctx, transfer, "interop/../escape", []byte("refused"))
	showRefusal("bad_path", err)
	absent := &coffer.FileReference{By: &coffer.FileReference_Id{Id: "00000000-0000-4000-8000-000000000000"}}
	_, err = files.GetFile(ctx, &coffer.GetFileRequest{File: absent})
	showRefusal("absent", err)
	_, err = files.GetFile(anonymous, &coffer.GetFileRequest{File: reference})
	showRefusal("no_token", err)
	fmt.Println("passed")
}
