/*
 * The floor: a bare libuv server on a Unix socket that answers every 110 bytes with 60, batch by batch, and does
 * nothing else. What apikeyd is compared with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { REQUEST = 110, ANSWER = 60, READ = 262144 };

static char input[READ];
static char output[READ / REQUEST * ANSWER + ANSWER];

struct client {
	uv_pipe_t pipe;
	size_t rest; /* bytes of an unfinished request */
};

static void on_close(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	(void)handle;
	(void)size;
	*buf = uv_buf_init(input, sizeof(input));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct client *client = stream->data;
	(void)buf;
	if (n < 0) {
		uv_close((uv_handle_t *)stream, on_close);
		return;
	}
	size_t bytes = client->rest + (size_t)n;
	client->rest = bytes % REQUEST;
	uv_buf_t out = uv_buf_init(output, (unsigned)(bytes / REQUEST * ANSWER));
	size_t done = 0;
	while (done < out.len) {
		uv_buf_t part = uv_buf_init(output, (unsigned)(out.len - done));
		int wrote = uv_try_write(stream, &part, 1);
		if (wrote > 0)
			done += (size_t)wrote;
		else if (wrote != UV_EAGAIN)
			return;
	}
}

static void on_connection(uv_stream_t *server, int status)
{
	if (status)
		return;
	struct client *client = calloc(1, sizeof(*client));
	if (!client || uv_pipe_init(server->loop, &client->pipe, 0))
		abort();
	client->pipe.data = client;
	if (uv_accept(server, (uv_stream_t *)&client->pipe) ||
	    uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read))
		uv_close((uv_handle_t *)&client->pipe, on_close);
}

int main(int argc, char **argv)
{
	uv_pipe_t server;
	if (argc != 2) {
		fprintf(stderr, "usage: echo SOCKET\n");
		return 2;
	}
	memset(output, 'x', sizeof(output));
	unlink(argv[1]);
	uv_loop_t *loop = uv_default_loop();
	int code = uv_pipe_init(loop, &server, 0);
	if (!code)
		code = uv_pipe_bind(&server, argv[1]);
	if (!code)
		code = uv_listen((uv_stream_t *)&server, 1024, on_connection);
	if (code) {
		fprintf(stderr, "echo: %s: %s\n", argv[1], uv_strerror(code));
		return 1;
	}
	return uv_run(loop, UV_RUN_DEFAULT);
}
