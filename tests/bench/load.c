/*
 * The load generator: C connections, each with D requests in flight, for S seconds; counts, latencies, and every
 * answer looked at.
 *
 * Requests come from a file that the driver (run) makes: records of { u16 length, u8 expected length, expected word,
 * message }. A message is one MessagePack-RPC request whose msgid this program writes over (it is always encoded as
 * ce xx xx xx xx at offset 2), and the expected word is the reason (or, without one, nothing is expected). The same
 * file serves --raw (the echo floor): there answers are 60 bytes each and nothing is looked at.
 *
 * Closed loop: a connection sends D requests in one write, and sends again when all D answers are there. With --rate N
 * it is open: N batches a second in all, each when its time has come, and what an answer took counts from that time, so
 * that a server that stands still is not spared the questions that would have been asked meanwhile. A connection whose
 * last batch is not answered yet sends the next as soon as it is.
 *
 * --trace FILE: for each answer two numbers of 64 bits, the time at which it counts from (CLOCK_MONOTONIC, ns) and what
 * it took (ns), for who wants to know what happened when.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/rpc.h"
#include "proto/scan.h"

enum { RAW_REQUEST = 110, RAW_ANSWER = 60, INPUT = 1 << 20 };

struct request {
	const uint8_t *message;
	const char *expected;
	uint16_t size;
	uint8_t expected_len;
};

struct connection {
	int fd;
	uint32_t sent, got; /* of this batch */
	uint32_t first_id;
	uint32_t *which; /* request by place in the batch */
	int64_t sent_at; /* with --rate: when it should have been sent */
	bool idle;	 /* all is answered, and the time for the next has not come */
	uint8_t *out;
	size_t out_len, out_done;
	uint8_t *in;
	size_t in_len;
};

/* Log-linear: 32 steps a doubling, from 1 ns to minutes. */
struct histogram {
	uint64_t count[64 * 32];
	uint64_t total;
};

static struct {
	const char *socket, *file;
	unsigned connections, depth;
	double seconds;
	bool raw;
	uint32_t pairs; /* check_many: answers are arrays, each counts for this many checks */
	double rate;	/* batches a second, all connections together; 0: closed loop */
	const char *trace;
} options = {.connections = 1, .depth = 1, .seconds = 3, .pairs = 1};

static struct request *requests;
static size_t request_count;
static struct histogram histogram;
static uint64_t answered, wrong, errors;
static int64_t gap_ns; /* between two batches of a connection; 0: closed loop */
static FILE *trace;
static volatile sig_atomic_t told_to_end;
static const struct scan_limits limits = {.message_max = INPUT, .depth_max = SCAN_DEPTH_MAX};

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void histogram_add(struct histogram *h, int64_t ns, uint64_t n)
{
	uint64_t v = ns > 0 ? (uint64_t)ns : 1;
	unsigned log = 63 - (unsigned)__builtin_clzll(v);
	unsigned step = log >= 5 ? (unsigned)(v >> (log - 5)) & 31 : 0;
	h->count[log * 32 + step] += n;
	h->total += n;
}

static double histogram_us(const struct histogram *h, double part)
{
	uint64_t want = (uint64_t)((double)h->total * part), seen = 0;
	for (unsigned i = 0; i < 64 * 32; i++) {
		seen += h->count[i];
		if (seen > want)
			return (double)(((uint64_t)(32 + i % 32) << (i / 32)) >> 5) / 1000;
	}
	return 0;
}

static void read_requests(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		die(path);
	const uint8_t *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	const uint8_t *end = p + st.st_size;
	size_t room = 0;
	while (end - p > 3) {
		if (request_count == room) {
			room = room ? room * 2 : 4096;
			requests = realloc(requests, room * sizeof(*requests));
			if (!requests)
				die("memory");
		}
		struct request *r = &requests[request_count++];
		r->size = (uint16_t)(p[0] | p[1] << 8);
		r->expected_len = p[2];
		r->expected = (const char *)p + 3;
		r->message = p + 3 + r->expected_len;
		p = r->message + r->size;
	}
	close(fd);
	if (!request_count || p != end) {
		fprintf(stderr, "load: %s: not a file of requests\n", path);
		exit(1);
	}
}

static uint64_t random_next(void)
{
	static uint64_t s = 88172645463325252ULL;
	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

static void fill(struct connection *c)
{
	c->out_len = c->out_done = 0;
	c->got = 0;
	c->first_id += options.depth;
	for (uint32_t i = 0; i < options.depth; i++) {
		if (options.raw) {
			memset(c->out + c->out_len, 'r', RAW_REQUEST);
			c->out_len += RAW_REQUEST;
			continue;
		}
		uint32_t which = (uint32_t)(random_next() % request_count);
		const struct request *r = &requests[which];
		uint8_t *m = c->out + c->out_len;
		memcpy(m, r->message, r->size);
		uint32_t id = c->first_id + i;
		m[3] = (uint8_t)(id >> 24), m[4] = (uint8_t)(id >> 16), m[5] = (uint8_t)(id >> 8), m[6] = (uint8_t)id;
		c->which[i] = which;
		c->out_len += r->size;
	}
	c->sent_at = gap_ns ? c->sent_at + gap_ns : now_ns();
	c->idle = false;
}

static void push(struct connection *c, int epoll)
{
	while (c->out_done < c->out_len) {
		ssize_t n = write(c->fd, c->out + c->out_done, c->out_len - c->out_done);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("write");
		c->out_done += (size_t)n;
	}
	struct epoll_event e = {.events = EPOLLIN | (c->out_done < c->out_len ? EPOLLOUT : 0), .data.ptr = c};
	static uint32_t last[65536];
	if (last[c->fd & 65535] != e.events && epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e))
		die("epoll_ctl");
	last[c->fd & 65535] = e.events;
}

/* The msgid of an answer stands at offset 2, as the smallest integer form that holds it. */
static uint32_t answer_id(const uint8_t *m)
{
	switch (m[2]) {
	case 0xcc:
		return m[3];
	case 0xcd:
		return (uint32_t)(m[3] << 8 | m[4]);
	case 0xce:
		return (uint32_t)m[3] << 24 | (uint32_t)m[4] << 16 | (uint32_t)m[5] << 8 | m[6];
	default:
		return m[2];
	}
}

static void look_at(struct connection *c, const uint8_t *m, size_t size)
{
	static const char word[] = "\xa6reason";
	uint32_t place = answer_id(m) - c->first_id;
	if (place >= options.depth || c->which[place] == UINT32_MAX) {
		errors++;
		return;
	}
	const struct request *r = &requests[c->which[place]];
	c->which[place] = UINT32_MAX;
	if (!r->expected_len)
		return;
	const uint8_t *found = memmem(m, size, word, sizeof(word) - 1);
	const uint8_t *end = m + size;
	if (!found || (size_t)(end - found) < sizeof(word) + r->expected_len ||
	    found[sizeof(word) - 1] != (0xa0 | r->expected_len) ||
	    memcmp(found + sizeof(word), r->expected, r->expected_len))
		wrong++;
}

static void pull(struct connection *c, int epoll, bool sending)
{
	ssize_t n = read(c->fd, c->in + c->in_len, INPUT - c->in_len);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		if (!n)
			errno = ECONNRESET;
		die("read");
	}
	c->in_len += (size_t)n;
	size_t done = 0, size;
	uint32_t before = c->got;
	while (c->in_len - done > 0) {
		if (options.raw) {
			if (c->in_len - done < RAW_ANSWER)
				break;
			size = RAW_ANSWER;
		} else {
			enum scan_result result = scan_message(c->in + done, c->in_len - done, &limits, &size);
			if (result == SCAN_MORE)
				break;
			if (result != SCAN_MESSAGE) {
				fprintf(stderr, "load: answer: %s\n", scan_error(result));
				exit(1);
			}
			look_at(c, c->in + done, size);
		}
		done += size;
		c->got++;
	}
	memmove(c->in, c->in + done, c->in_len - done);
	c->in_len -= done;
	if (c->got > before) {
		int64_t took = now_ns() - c->sent_at;

		histogram_add(&histogram, took, c->got - before);
		answered += c->got - before;
		for (uint32_t i = before; trace && i < c->got; i++)
			fwrite((int64_t[2]){c->sent_at, took}, sizeof(int64_t), 2, trace);
	}
	if (c->got < options.depth || !sending)
		return;
	if (gap_ns && now_ns() < c->sent_at + gap_ns) {
		c->idle = true;
		return;
	}
	fill(c);
	push(c, epoll);
}

/* Sends what is due; how long, at most, until the next is, in ns. */
static int64_t send_due(struct connection *connections, int epoll)
{
	int64_t next = 100000000;

	for (unsigned i = 0; gap_ns && i < options.connections; i++) {
		struct connection *c = &connections[i];
		int64_t left = c->sent_at + gap_ns - now_ns();

		if (!c->idle)
			continue;
		if (left <= 0) {
			fill(c);
			push(c, epoll);
		} else if (left < next) {
			next = left;
		}
	}
	return next;
}

static void open_all(struct connection *connections, int epoll)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(options.socket) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(options.socket);
	}
	strcpy(address.sun_path, options.socket);
	for (unsigned i = 0; i < options.connections; i++) {
		struct connection *c = &connections[i];
		c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
			die(options.socket);
		fcntl(c->fd, F_SETFL, O_NONBLOCK);
		c->which = calloc(options.depth, sizeof(*c->which));
		c->out = malloc((size_t)options.depth * 65536 < (1 << 22) ? (size_t)options.depth * 65536 : 1 << 22);
		c->in = malloc(INPUT);
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
		if (!c->which || !c->out || !c->in || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e))
			die("set up");
		c->first_id = 0x10000;
	}
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"socket", 1, NULL, 's'}, {"requests", 1, NULL, 'r'}, {"connections", 1, NULL, 'c'},
		{"depth", 1, NULL, 'd'},  {"seconds", 1, NULL, 't'},  {"raw", 0, NULL, 'R'},
		{"pairs", 1, NULL, 'p'},  {"rate", 1, NULL, 'n'},     {"trace", 1, NULL, 'T'},
		{"help", 0, NULL, 'h'},	  {NULL, 0, NULL, 0},
	};
	for (int o; (o = getopt_long(argc, argv, "s:r:c:d:t:Rp:n:T:h", longs, NULL)) != -1;) {
		switch (o) {
		case 's':
			options.socket = optarg;
			break;
		case 'r':
			options.file = optarg;
			break;
		case 'c':
			options.connections = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			options.depth = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			options.seconds = strtod(optarg, NULL);
			break;
		case 'R':
			options.raw = true;
			break;
		case 'p':
			options.pairs = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.rate = strtod(optarg, NULL);
			break;
		case 'T':
			options.trace = optarg;
			break;
		default:
			printf("usage: load --socket PATH (--raw | --requests FILE) [--connections N] [--depth N]\n"
			       "            [--seconds S] [--pairs N] [--rate N] [--trace FILE]\n"
			       "SIGTERM ends it early. Prints one JSON line: checks a second, latencies in microseconds, answers that were wrong.\n");
			exit(o == 'h' ? 0 : 2);
		}
	}
	if (!options.socket || (!options.raw && !options.file) || !options.connections || !options.depth) {
		fprintf(stderr, "load: --socket and --raw or --requests are needed; --help says more\n");
		exit(2);
	}
}

/* SIGTERM is an early end, and all is told as at the planned one. */
static void on_end(int number)
{
	(void)number;
	told_to_end = 1;
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	signal(SIGTERM, on_end);
	if (!options.raw)
		read_requests(options.file);
	struct connection *connections = calloc(options.connections, sizeof(*connections));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!connections || epoll < 0)
		die("set up");
	open_all(connections, epoll);

	if (options.trace && !(trace = fopen(options.trace, "we")))
		die(options.trace);
	if (options.rate > 0)
		gap_ns = (int64_t)(1e9 * options.connections / options.rate);
	int64_t begin = now_ns(), warm = begin + (int64_t)(options.seconds * 1e9 / 5);
	int64_t end = begin + (int64_t)(options.seconds * 1e9);
	for (unsigned i = 0; i < options.connections; i++) {
		/* With a rate, one connection after the other. */
		connections[i].sent_at = begin + gap_ns * i / options.connections - gap_ns;
		connections[i].idle = gap_ns > 0;
		if (gap_ns)
			continue;
		fill(&connections[i]);
		push(&connections[i], epoll);
	}
	bool warming = true;
	struct epoll_event events[256];
	for (;;) {
		int64_t now = now_ns();
		if (warming && now >= warm) {
			warming = false;
			memset(&histogram, 0, sizeof(histogram));
			answered = 0;
			begin = now;
		}
		if (now >= end || told_to_end) {
			end = now;
			break;
		}
		int64_t left = send_due(connections, epoll);
		struct timespec pause = {left / 1000000000, left % 1000000000};
		int n = epoll_pwait2(epoll, events, 256, &pause, NULL);
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			if (events[i].events & EPOLLOUT)
				push(c, epoll);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				pull(c, epoll, true);
		}
	}
	double seconds = (double)(end - begin) / 1e9;
	/* What is in flight must still be answered: a lost answer shows here. */
	uint64_t lost = 0;
	for (unsigned i = 0; i < options.connections; i++) {
		struct connection *c = &connections[i];
		for (int spin = 0; !c->idle && c->got < options.depth && spin < 2000; spin++) {
			push(c, epoll);
			pull(c, epoll, false);
			if (c->got < options.depth)
				usleep(1000);
		}
		lost += c->idle ? 0 : options.depth - c->got;
	}
	uint64_t in_time = histogram.total;
	if (trace && fclose(trace))
		die(options.trace);
	printf("{\"per_second\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"answers\": %llu, "
	       "\"wrong\": %llu, \"lost\": %llu, \"duplicated\": %llu}\n",
	       (double)in_time * options.pairs / seconds, histogram_us(&histogram, 0.5), histogram_us(&histogram, 0.99),
	       histogram_us(&histogram, 0.999), (unsigned long long)answered, (unsigned long long)wrong,
	       (unsigned long long)lost, (unsigned long long)errors);
	return wrong || lost || errors ? 1 : 0;
}
