/* All sessions together: who may connect, how long they may stay, and the stop. */
#include "daemon/session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
	FRONT_MAX = 4096, /* room before the next read for what the last one left, as in session.c */
	SWEEP_MS = 1000,
	SWEEP_MIN_MS = 10,
	OVERFLOW_ID = 65534, /* what stands for users and groups without a translation, where the kernel does not say */
	GIDS_FEW = 32,
	GIDS_MAX = 65536, /* NGROUPS_MAX of the kernel */
};

/* ---- counts by uid ---- */

static struct session_uid *uid_find(struct sessions *sessions, uid_t uid)
{
	for (uint32_t i = 0; i < sessions->uid_count; i++) {
		if (sessions->uids[i].uid == uid)
			return &sessions->uids[i];
	}
	return NULL;
}

static bool uid_add(struct sessions *sessions, uid_t uid)
{
	struct session_uid *entry = uid_find(sessions, uid);
	uint32_t cap = sessions->uid_cap ? sessions->uid_cap * 2 : 16;
	struct session_uid *uids;

	if (entry) {
		entry->count++;
		return true;
	}
	if (sessions->uid_count == sessions->uid_cap) {
		uids = realloc(sessions->uids, cap * sizeof(*uids));
		if (!uids)
			return false;
		sessions->uids = uids;
		sessions->uid_cap = cap;
	}
	sessions->uids[sessions->uid_count++] = (struct session_uid){.uid = uid, .count = 1};
	return true;
}

void session_uid_gone(struct sessions *sessions, uid_t uid)
{
	struct session_uid *entry = uid_find(sessions, uid);

	if (entry && --entry->count == 0)
		*entry = sessions->uids[--sessions->uid_count];
}

/* ---- who may connect ---- */

static bool may_administer(const struct sessions *sessions, uid_t uid)
{
	return uid == 0 || uid == geteuid() || user_set_has(&sessions->users.admin, uid);
}

bool session_may_explain(const struct session *session)
{
	return session->owner.uid == geteuid() || user_set_has(&session->all->users.explain, session->owner.uid);
}

/* One line for the peer, as far as its socket takes it, and the end. */
static void refuse(int fd, enum rpc_error_code code, const char *why)
{
	struct rpc_error error = {.code = code};
	struct rpc_buffer out = {0};

	snprintf(error.message, sizeof(error.message), "%s", why);
	rpc_put_notice(&out, &error);
	if (!out.failed && send(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("a refused peer was gone before it could be told why");
	rpc_buffer_deinit(&out);
	close(fd);
}

/* A uid that the kernel could not translate stands for anybody. */
static bool read_peer(const struct sessions *sessions, int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) == 0 && len == sizeof(*ret) &&
	       ret->uid != (uid_t)-1 && ret->uid != OVERFLOW_ID && ret->uid != sessions->overflow_uid;
}

/* A gid that stands for anybody's group is nobody's: it must not pass for the group that has that number here. */
static bool gid_lost(const struct sessions *sessions, gid_t gid)
{
	return gid == OVERFLOW_ID || gid == sessions->overflow_gid;
}

/* The peer's supplementary groups. A session can do without: only what asks for a group is then refused. */
static void read_gids(struct session *session, int fd)
{
	gid_t few[GIDS_FEW], *gids = few;
	socklen_t len = sizeof(few);
	uint32_t count = 0;
	int rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len);

	if (rc != 0 && errno == ERANGE && len <= GIDS_MAX * sizeof(*gids)) {
		gids = malloc(len);
		rc = gids ? getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len) : -1;
	}
	for (uint32_t i = 0; rc == 0 && i < len / sizeof(*gids); i++) {
		if (!gid_lost(session->all, gids[i]))
			gids[count++] = gids[i];
	}
	if (rc == 0 && count > 0) {
		session->owner.gids = malloc(count * sizeof(*gids));
		if (session->owner.gids)
			memcpy(session->owner.gids, gids, count * sizeof(*gids));
	}
	session->owner.gids_known = rc == 0 && (count == 0 || session->owner.gids);
	session->owner.gid_count = session->owner.gids_known ? count : 0;
	if (!session->owner.gids_known)
		log_about(LOG_LEVEL_DEBUG, LOG_CALLER(session->owner.uid, session->owner.pid),
			  "the groups of a peer cannot be read");
	if (gids != few)
		free(gids);
}

/* NULL: come in. */
static const char *why_not(struct sessions *sessions, int fd, enum rpc_service service, struct ucred *ret_peer,
			   enum rpc_error_code *ret_code)
{
	const struct config *config = sessions->config;
	const struct session_uid *entry;

	*ret_code = RPC_LIMIT;
	if (!read_peer(sessions, fd, ret_peer)) {
		sessions->counters.refused_credentials++;
		log_warning("a connection is refused: the kernel does not say whose it is");
		*ret_code = RPC_REFUSED;
		return "the kernel does not say who you are (a user namespace, or the overflow uid)";
	}
	if (service == RPC_SERVICE_ADMIN && !may_administer(sessions, ret_peer->uid)) {
		sessions->counters.refused_admin++;
		log_about(LOG_LEVEL_WARNING, LOG_CALLER(ret_peer->uid, ret_peer->pid),
			  "a user that is not in [admin] users may not administer");
		*ret_code = RPC_REFUSED;
		return "you may not administer: your user is not in [admin] users of apikeyd.conf";
	}
	if (sessions->count >= config->connections) {
		sessions->counters.refused_connections++;
		return "too many connections: limits.connections";
	}
	entry = uid_find(sessions, ret_peer->uid);
	if (entry && entry->count >= config->connections_per_uid) {
		sessions->counters.refused_uid_connections++;
		return "too many connections of your user: limits.connections_per_uid";
	}
	return NULL;
}

static void on_sweep(uv_timer_t *timer);

static void start_sweep(struct sessions *sessions)
{
	uint64_t every = SWEEP_MS;

	if (sessions->config->partial_message_ms / 4 < every)
		every = sessions->config->partial_message_ms / 4;
	if (sessions->config->idle_ms > 0 && sessions->config->idle_ms / 4 < every)
		every = sessions->config->idle_ms / 4;
	if (every < SWEEP_MIN_MS)
		every = SWEEP_MIN_MS;
	uv_timer_start(&sessions->sweep, on_sweep, every, every);
}

static void on_never_opened(uv_handle_t *handle)
{
	struct session *session = handle->data;
	struct sessions *all = session->all;

	free(session->owner.gids);
	free(session);
	all->closing--;
	session_check_empty(all);
}

void sessions_accept(struct sessions *sessions, int fd, enum rpc_service service, const char *stack)
{
	struct session *session = NULL;
	enum rpc_error_code code;
	struct ucred peer;
	const char *why = why_not(sessions, fd, service, &peer, &code);

	if (!why) {
		session = calloc(1, sizeof(*session));
		if (!session || !uid_add(sessions, peer.uid)) {
			free(session);
			code = RPC_INTERNAL;
			why = "no memory for another connection";
		}
	}
	if (why) {
		refuse(fd, code, why);
		return;
	}
	session->all = sessions;
	session->owner.answer = session_answer;
	session->service = service;
	session->owner.stack = stack;
	session->owner.uid = peer.uid;
	session->owner.gid = gid_lost(sessions, peer.gid) ? (gid_t)-1 : peer.gid;
	session->owner.pid = peer.pid;
	read_gids(session, fd);
	session->owner.stack = stack;
	session->active_at = uv_now(sessions->loop);
	uv_pipe_init(sessions->loop, &session->pipe, 0);
	session->pipe.data = session;
	if (uv_pipe_open(&session->pipe, fd) != 0) {
		close(fd);
		session_uid_gone(sessions, peer.uid);
		sessions->closing++;
		uv_close((uv_handle_t *)&session->pipe, on_never_opened);
		return;
	}
	session->next = sessions->first;
	if (session->next)
		session->next->prev = session;
	sessions->first = session;
	if (sessions->count++ == 0)
		start_sweep(sessions);
	sessions->admin_count += service == RPC_SERVICE_ADMIN;
	sessions->counters.accepted++;
	session_set_reading(session);
}

/* ---- how long they may stay ---- */

static void sweep_one(struct session *session, uint64_t now)
{
	struct sessions *all = session->all;
	const struct config *config = all->config;

	if (session->draining) {
		if (now - session->draining_since >= SESSION_LINGER_MS)
			session_close(session);
		return;
	}
	if (session->partial_since > 0 && now - session->partial_since >= config->partial_message_ms) {
		all->counters.closed_partial++;
		session_fail(session, RPC_LIMIT, "a message was half there for too long: limits.partial_message_ms",
			     &all->out);
		return;
	}
	if (config->idle_ms > 0 && now - session->active_at >= config->idle_ms && session->owner.in_flight == 0 &&
	    session_pending(session) == 0) {
		all->counters.closed_idle++;
		session_fail(session, RPC_LIMIT, "silent for too long: limits.idle_ms", &all->out);
	}
}

static void on_sweep(uv_timer_t *timer)
{
	struct sessions *sessions = timer->data;
	uint64_t now = uv_now(sessions->loop);
	struct session *next;

	for (struct session *session = sessions->first; session; session = next) {
		next = session->next; /* looking at one ends no other */
		sweep_one(session, now);
	}
	if (sessions->count == 0)
		uv_timer_stop(&sessions->sweep);
}

/* ---- all of them ---- */

/* Which uid or gid stands for those that have no translation here. */
static uint32_t read_overflow(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned id = OVERFLOW_ID;

	if (file) {
		if (fscanf(file, "%u", &id) != 1)
			id = OVERFLOW_ID;
		fclose(file);
	}
	return id;
}

int sessions_init(struct sessions *sessions, uv_loop_t *loop, const struct config *config, struct request_core *core,
		  struct admin *admin, const struct session_callbacks *callbacks)
{
	memset(sessions, 0, sizeof(*sessions));
	sessions->loop = loop;
	sessions->config = config;
	sessions->core = core;
	sessions->admin = admin;
	sessions->callbacks = *callbacks;
	sessions->overflow_uid = read_overflow("/proc/sys/kernel/overflowuid");
	sessions->overflow_gid = read_overflow("/proc/sys/kernel/overflowgid");
	sessions->read_size = config->read_bytes;
	sessions->read_buffer = malloc(FRONT_MAX + sessions->read_size);
	sessions->decoder = rpc_decoder_new();
	sessions->batch = calloc(REQUEST_BATCH_MAX, sizeof(struct rpc_request));
	if (!sessions->read_buffer || !sessions->decoder || !sessions->batch) {
		sessions_deinit(sessions);
		return -ENOMEM;
	}
	uv_timer_init(loop, &sessions->sweep);
	sessions->sweep.data = sessions;
	return 0;
}

void session_users_deinit(struct session_users *users)
{
	user_set_deinit(&users->admin);
	user_set_deinit(&users->explain);
}

int sessions_configure(struct sessions *sessions, const struct config *config, struct session_users *users)
{
	uint8_t *buffer;

	if (config->read_bytes != sessions->read_size) {
		buffer = malloc(FRONT_MAX + (size_t)config->read_bytes);
		if (!buffer)
			return -ENOMEM;
		free(sessions->read_buffer); /* wiped after each read */
		sessions->read_buffer = buffer;
		sessions->read_size = config->read_bytes;
	}
	session_users_deinit(&sessions->users);
	sessions->users = *users;
	*users = (struct session_users){0};
	sessions->config = config;
	if (sessions->count > 0)
		start_sweep(sessions);
	return 0;
}

void session_check_empty(struct sessions *sessions)
{
	if (!sessions->stopping || sessions->told_empty || sessions->count > 0 || sessions->closing > 0 ||
	    sessions->admin_requests)
		return;
	sessions->told_empty = true;
	sessions->callbacks.empty(sessions->callbacks.data);
}

void sessions_stop(struct sessions *sessions)
{
	struct session *next;

	for (struct session *session = sessions->first; session; session = next) {
		next = session->next;
		session_last_reads(session);
	}
	sessions->stopping = true;
	for (struct session *session = sessions->first; session; session = next) {
		next = session->next;
		session_set_reading(session);
		session_finish(session);
	}
	session_check_empty(sessions);
}

void sessions_abort(struct sessions *sessions)
{
	struct session *next;

	for (struct session *session = sessions->first; session; session = next) {
		next = session->next;
		session_close(session);
	}
}

void sessions_close(struct sessions *sessions)
{
	uv_close((uv_handle_t *)&sessions->sweep, NULL);
}

void sessions_deinit(struct sessions *sessions)
{
	rpc_decoder_free(sessions->decoder);
	free(sessions->batch);
	free(sessions->read_buffer);
	free(sessions->uids);
	session_users_deinit(&sessions->users);
	rpc_buffer_deinit(&sessions->out);
	arena_clear(&sessions->arena);
}
