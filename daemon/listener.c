#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/user.h"

enum {
	BACKLOG = 4096, /* the kernel cuts it to somaxconn */
	ACCEPT_SLICE = 64,
	PAUSE_MS = 100,
	LOCK_TRIES = 16,
	WHERE_SIZE = 256, /* of a path in an error */
};

/* ---- what is wrong ---- */

/* A socket of the configuration, and where to say what is wrong with it. */
struct wanted {
	const struct config *config;
	const char *section;
	const struct config_socket *s;
	char *error;
	size_t error_size;
};

/* "<file>:<line>: [section] setting = value: <what>". Returns rc. */
__attribute__((format(printf, 5, 6))) static int wrong(const struct wanted *wanted, int rc, const char *setting,
						       const char *value, const char *format, ...)
{
	char where[WHERE_SIZE], *error = wanted->error;
	int used = snprintf(error, wanted->error_size, "%s: [%s] %s = %s: ",
			    config_where(wanted->config, wanted->section, setting, where, sizeof(where)),
			    wanted->section, setting, value);
	va_list args;

	if (used < 0 || (size_t)used >= wanted->error_size)
		return rc;
	va_start(args, format);
	vsnprintf(error + used, wanted->error_size - (size_t)used, format, args);
	va_end(args);
	return rc;
}

static int no_memory(const struct wanted *wanted)
{
	snprintf(wanted->error, wanted->error_size, "no memory");
	return -ENOMEM;
}

static void directory_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, size, "%.*s", slash > path ? (int)(slash - path) : 1, path);
}

/* What the kernel said when `what` was tried at the path, and what helps. */
static int failed(const struct wanted *wanted, int number, const char *what)
{
	const char *path = wanted->s->path;
	char directory[WHERE_SIZE], own[USER_NAME_SIZE], help[2 * WHERE_SIZE];

	directory_of(path, directory, sizeof(directory));
	switch (number) {
	case EACCES:
	case EPERM:
		snprintf(help, sizeof(help), "; apikeyd runs as %s, who must be let write to %s",
			 user_describe(geteuid(), own), directory);
		break;
	case ENOENT:
	case ENOTDIR:
		snprintf(help, sizeof(help), "; make the directory %s, writable by apikeyd's user", directory);
		break;
	case EADDRINUSE:
		snprintf(help, sizeof(help),
			 "; another program has made something there just now: end it, or choose "
			 "another path");
		break;
	case EROFS:
		snprintf(help, sizeof(help), "; choose a path that can be written to, such as one in /run");
		break;
	default:
		help[0] = '\0';
	}
	return wrong(wanted, -number, "path", path, "cannot %s: %s%s", what, strerror(number), help);
}

/* Owner, group or mode cannot be given to it. */
static int not_given(const struct wanted *wanted, int number, const char *setting, const char *value)
{
	char own[USER_NAME_SIZE];

	return wrong(wanted, -number, setting, value, "cannot be given to the socket: %s; %s is who apikeyd runs as%s",
		     strerror(number), user_describe(geteuid(), own),
		     strcmp(setting, "group") == 0   ? ": make that a member of the group, or leave it out"
		     : strcmp(setting, "owner") == 0 ? ", and only root gives files away: leave it out, or use a group"
						     : "");
}

static int something_else(const struct wanted *wanted, int rc)
{
	return wrong(wanted, rc, "path", wanted->s->path,
		     "something stands there that is no socket; move it away, or choose another path");
}

/* ---- checks ---- */

static int check(const struct wanted *wanted)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)], own[USER_NAME_SIZE];
	const struct config_socket *s = wanted->s;
	struct stat st;
	uid_t uid;
	gid_t gid;
	int number;

	directory_of(s->path, directory, sizeof(directory));
	if (*s->owner && !user_uid(s->owner, &uid))
		return wrong(wanted, -EINVAL, "owner", s->owner, "there is no such user");
	if (*s->group && !user_gid(s->group, &gid))
		return wrong(wanted, -EINVAL, "group", s->group, "there is no such group");
	if (stat(directory, &st) != 0) {
		number = errno; /* the look-up of the user's name may change it */
		return wrong(wanted, -EINVAL, "path", s->path,
			     "the directory %s: %s; make it, writable by apikeyd's user, %s", directory,
			     strerror(number), user_describe(geteuid(), own));
	}
	if (!S_ISDIR(st.st_mode) || access(directory, W_OK | X_OK) != 0)
		return wrong(
			wanted, -EINVAL, "path", s->path,
			"%s is no directory that apikeyd's user, %s, can write to; let that user, or choose another path",
			directory, user_describe(geteuid(), own));
	if (lstat(s->path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return something_else(wanted, -EINVAL);
	return 0;
}

int listener_check(const struct config *config, const char *section, const struct config_socket *s, char *error,
		   size_t error_size)
{
	const struct wanted wanted = {config, section, s, error, error_size};

	return check(&wanted);
}

/* ---- making the socket ---- */

/* One daemon a path: two that start at once would each take the other's socket for a dead one. */
static int take_lock(struct listener *listener, const struct wanted *wanted)
{
	struct stat ours, there;

	if (asprintf(&listener->lock_path, "%s.lock", listener->path) < 0) {
		listener->lock_path = NULL;
		return no_memory(wanted);
	}
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		listener->lock = open(listener->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (listener->lock < 0)
			return failed(wanted, errno, "make the lock beside it");
		if (flock(listener->lock, LOCK_EX | LOCK_NB) != 0) {
			close(listener->lock);
			listener->lock = -1;
			return wrong(wanted, -EADDRINUSE, "path", listener->path,
				     "another apikeyd that runs has this socket; stop it, or choose another path");
		}
		/* The one who had it may have taken the file away between our open and our lock. */
		if (fstat(listener->lock, &ours) == 0 && lstat(listener->lock_path, &there) == 0 &&
		    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
			return 0;
		close(listener->lock);
		listener->lock = -1;
	}
	return wrong(wanted, -EAGAIN, "path", listener->path, "the lock %s keeps going away", listener->lock_path);
}

static void drop_lock(struct listener *listener)
{
	if (listener->lock >= 0 && listener->lock_path) {
		unlink(listener->lock_path);
		close(listener->lock);
	}
	listener->lock = -1;
}

/* A dead daemon's socket is taken away; whatever else stands there is left alone. */
static int make_way(const struct sockaddr_un *address, const struct wanted *wanted)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, rc = 0;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : failed(wanted, errno, "look at it");
	if (!S_ISSOCK(st.st_mode))
		return something_else(wanted, -EEXIST);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed(wanted, errno, "make a socket");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		rc = wrong(wanted, -EADDRINUSE, "path", path,
			   "a daemon that runs answers there; stop it, or choose another path");
	else if (errno != ECONNREFUSED)
		rc = failed(wanted, errno, "tell whether the socket there is in use");
	else if (unlink(path) != 0)
		rc = failed(wanted, errno, "take away the dead socket there");
	else
		log_info("took away the dead socket %s", path);
	close(fd);
	return rc;
}

/* Nobody can connect before listen(), so owner and mode are in place in time. */
static int make_socket(struct listener *listener, const struct wanted *wanted)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct config_socket *s = wanted->s;
	char mode[16];
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	struct stat st;
	int rc;

	if (strlen(s->path) >= sizeof(address.sun_path))
		return wrong(wanted, -ENAMETOOLONG, "path", s->path,
			     "longer than %zu bytes, which is all that a socket's address holds; choose a shorter one",
			     sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	rc = make_way(&address, wanted);
	if (rc != 0)
		return rc;
	if (*s->owner && !user_uid(s->owner, &uid))
		return wrong(wanted, -EINVAL, "owner", s->owner, "there is no such user");
	if (*s->group && !user_gid(s->group, &gid))
		return wrong(wanted, -EINVAL, "group", s->group, "there is no such group");
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return failed(wanted, errno, "make a socket");
	if (bind(listener->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return failed(wanted, errno, "bind a socket to it");
	if (lstat(s->path, &st) != 0)
		return failed(wanted, errno, "look at it");
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	if (uid != (uid_t)-1 && lchown(s->path, uid, (gid_t)-1) != 0)
		return not_given(wanted, errno, "owner", s->owner);
	if (gid != (gid_t)-1 && lchown(s->path, (uid_t)-1, gid) != 0)
		return not_given(wanted, errno, "group", s->group);
	snprintf(mode, sizeof(mode), "%04o", s->mode);
	if (chmod(s->path, s->mode) != 0)
		return not_given(wanted, errno, "mode", mode);
	return listen(listener->fd, BACKLOG) != 0 ? failed(wanted, errno, "listen on it") : 0;
}

static void take_away(struct listener *listener)
{
	struct stat st;

	if (listener->inode != 0 && lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
	    st.st_ino == listener->inode)
		unlink(listener->path);
	listener->inode = 0;
}

int listener_open(struct listener *listener, const struct config *config, const char *section,
		  const struct config_socket *s, char *error, size_t error_size)
{
	const struct wanted wanted = {config, section, s, error, error_size};
	int rc = check(&wanted);

	memset(listener, 0, sizeof(*listener));
	listener->fd = -1;
	listener->lock = -1;
	if (rc != 0)
		return rc;
	listener->path = strdup(s->path);
	if (!listener->path)
		return no_memory(&wanted);
	rc = take_lock(listener, &wanted);
	if (rc == 0)
		rc = make_socket(listener, &wanted);
	if (rc == 0)
		return 0;
	take_away(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	listener->fd = -1;
	drop_lock(listener);
	free(listener->path);
	free(listener->lock_path);
	listener->path = NULL;
	listener->lock_path = NULL;
	return rc;
}

int listener_adopt(struct listener *listener, int fd, const char *path, char *error, size_t error_size)
{
	int flags = fcntl(fd, F_GETFL), rc;

	memset(listener, 0, sizeof(*listener));
	listener->fd = -1;
	listener->lock = -1;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		rc = -errno;
		snprintf(error, error_size, "passed socket at %s: %s", path, strerror(errno));
		return rc;
	}
	listener->path = strdup(path);
	if (!listener->path) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	listener->fd = fd;
	listener->adopted = true;
	return 0;
}

/* ---- accepting ---- */

static void on_ready(uv_poll_t *poll, int status, int events);

static void on_pause_end(uv_timer_t *timer)
{
	struct listener *listener = timer->data;

	uv_poll_start(&listener->poll, UV_READABLE, on_ready);
}

/* False where none is there, or none can be taken. */
static bool accept_one(struct listener *listener)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		listener->accepted(listener->data, fd);
		return true;
	}
	switch (errno) {
	case EINTR:
	case ECONNABORTED:
		return true;
	case EAGAIN:
		return false;
	default:
		/* EMFILE, ENFILE, ENOMEM, ENOBUFS: the connection stays in the kernel's queue, and we would spin. */
		log_warning("cannot accept on %s: %s; trying again in %d ms", listener->path, strerror(errno),
			    PAUSE_MS);
		uv_poll_stop(&listener->poll);
		uv_timer_start(&listener->pause, on_pause_end, PAUSE_MS, 0);
		return false;
	}
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;

	(void)status;
	(void)events;
	for (unsigned i = 0; i < ACCEPT_SLICE && accept_one(listener); i++)
		;
}

int listener_start(struct listener *listener, uv_loop_t *loop, listener_accepted accepted, void *data)
{
	int rc;

	listener->accepted = accepted;
	listener->data = data;
	rc = uv_poll_init(loop, &listener->poll, listener->fd);
	if (rc != 0)
		return rc;
	uv_timer_init(loop, &listener->pause);
	listener->poll.data = listener;
	listener->pause.data = listener;
	listener->started = true;
	return uv_poll_start(&listener->poll, UV_READABLE, on_ready);
}

void listener_hold(struct listener *listener)
{
	uv_poll_stop(&listener->poll);
	uv_timer_stop(&listener->pause);
}

void listener_go_on(struct listener *listener)
{
	if (!uv_is_closing((uv_handle_t *)&listener->poll))
		uv_poll_start(&listener->poll, UV_READABLE, on_ready);
}

/* ---- the end ---- */

static void on_poll_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;

	close(listener->fd);
	listener->fd = -1;
}

void listener_stop(struct listener *listener)
{
	if (listener->fd < 0 || (listener->started && uv_is_closing((uv_handle_t *)&listener->poll)))
		return;
	/* The path first: who comes from now on is told at once, and who stands in the queue is let in. */
	take_away(listener);
	if (listener->started) {
		for (unsigned i = 0; !listener->adopted && i < BACKLOG && accept_one(listener); i++)
			;
		uv_close((uv_handle_t *)&listener->pause, NULL);
		uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
	} else {
		close(listener->fd);
		listener->fd = -1;
	}
	drop_lock(listener);
	free(listener->path);
	free(listener->lock_path);
	listener->path = NULL;
	listener->lock_path = NULL;
}
