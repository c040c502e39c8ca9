#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
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
};

/* ---- checks ---- */

static void directory_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, size, "%.*s", slash > path ? (int)(slash - path) : 1, path);
}

int listener_check(const char *section, const struct config_socket *s, char *error, size_t error_size)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat st;
	uid_t uid;
	gid_t gid;

	directory_of(s->path, directory, sizeof(directory));
	if (*s->owner && !user_uid(s->owner, &uid)) {
		snprintf(error, error_size, "[%s] owner = %s: there is no such user", section, s->owner);
		return -EINVAL;
	}
	if (*s->group && !user_gid(s->group, &gid)) {
		snprintf(error, error_size, "[%s] group = %s: there is no such group", section, s->group);
		return -EINVAL;
	}
	if (stat(directory, &st) != 0) {
		snprintf(error, error_size, "[%s] path = %s: the directory %s: %s; make it, writable by apikeyd's user",
			 section, s->path, directory, strerror(errno));
		return -EINVAL;
	}
	if (!S_ISDIR(st.st_mode) || access(directory, W_OK | X_OK) != 0) {
		snprintf(error, error_size, "[%s] path = %s: %s is no directory that apikeyd's user can write to",
			 section, s->path, directory);
		return -EINVAL;
	}
	if (lstat(s->path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		snprintf(error, error_size,
			 "[%s] path = %s: something stands there that is no socket; move it away, "
			 "or choose another path",
			 section, s->path);
		return -EINVAL;
	}
	return 0;
}

/* ---- making the socket ---- */

/* One daemon a path: two that start at once would each take the other's socket for a dead one. */
static int take_lock(struct listener *listener, const char *section, char *error, size_t error_size)
{
	struct stat ours, there;
	int rc;

	if (asprintf(&listener->lock_path, "%s.lock", listener->path) < 0) {
		listener->lock_path = NULL;
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		listener->lock = open(listener->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (listener->lock < 0) {
			rc = -errno;
			snprintf(error, error_size, "[%s] path = %s: cannot make the lock %s: %s", section,
				 listener->path, listener->lock_path, strerror(errno));
			return rc;
		}
		if (flock(listener->lock, LOCK_EX | LOCK_NB) != 0) {
			snprintf(error, error_size,
				 "[%s] path = %s: another apikeyd that runs has this socket; stop it, "
				 "or choose another path",
				 section, listener->path);
			close(listener->lock);
			listener->lock = -1;
			return -EADDRINUSE;
		}
		/* The one who had it may have taken the file away between our open and our lock. */
		if (fstat(listener->lock, &ours) == 0 && lstat(listener->lock_path, &there) == 0 &&
		    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
			return 0;
		close(listener->lock);
		listener->lock = -1;
	}
	snprintf(error, error_size, "[%s] path = %s: the lock %s keeps going away", section, listener->path,
		 listener->lock_path);
	return -EAGAIN;
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
static int make_way(const struct sockaddr_un *address, const char *section, char *error, size_t error_size)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, rc = 0;

	if (lstat(path, &st) != 0) {
		if (errno == ENOENT)
			return 0;
		rc = -errno;
		snprintf(error, error_size, "[%s] path = %s: %s", section, path, strerror(errno));
		return rc;
	}
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(error, error_size,
			 "[%s] path = %s: something stands there that is no socket; move it away, "
			 "or choose another path",
			 section, path);
		return -EEXIST;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		rc = -errno;
		snprintf(error, error_size, "[%s] path = %s: %s", section, path, strerror(errno));
		return rc;
	}
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN) {
		snprintf(error, error_size,
			 "[%s] path = %s: a daemon that runs answers there; stop it, or choose "
			 "another path",
			 section, path);
		rc = -EADDRINUSE;
	} else if (errno != ECONNREFUSED) {
		rc = -errno;
		snprintf(error, error_size, "[%s] path = %s: cannot tell whether the socket there is in use: %s",
			 section, path, strerror(errno));
	} else if (unlink(path) != 0) {
		rc = -errno;
		snprintf(error, error_size, "[%s] path = %s: cannot take away the dead socket there: %s", section, path,
			 strerror(errno));
	} else {
		log_info("took away the dead socket %s", path);
	}
	close(fd);
	return rc;
}

/* Nobody can connect before listen(), so owner and mode are in place in time. */
static int make_socket(struct listener *listener, const char *section, const struct config_socket *s, char *error,
		       size_t error_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *what = "socket";
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	struct stat st;
	int rc;

	if (strlen(s->path) >= sizeof(address.sun_path)) {
		snprintf(error, error_size, "[%s] path = %s: longer than %zu bytes", section, s->path,
			 sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	rc = make_way(&address, section, error, error_size);
	if (rc != 0)
		return rc;
	if ((*s->owner && !user_uid(s->owner, &uid)) || (*s->group && !user_gid(s->group, &gid))) {
		snprintf(error, error_size, "[%s] owner = %s, group = %s: there is no such user or group", section,
			 s->owner, s->group);
		return -EINVAL;
	}
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		goto failed;
	what = "bind";
	if (bind(listener->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		goto failed;
	what = "stat";
	if (lstat(s->path, &st) != 0)
		goto failed;
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	what = "change the owner";
	if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(s->path, uid, gid) != 0)
		goto failed;
	what = "change the mode";
	if (chmod(s->path, s->mode) != 0)
		goto failed;
	what = "listen";
	if (listen(listener->fd, BACKLOG) != 0)
		goto failed;
	return 0;
failed:
	rc = -errno;
	snprintf(error, error_size, "[%s] path = %s: cannot %s: %s", section, s->path, what, strerror(-rc));
	return rc;
}

static void take_away(struct listener *listener)
{
	struct stat st;

	if (listener->inode != 0 && lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
	    st.st_ino == listener->inode)
		unlink(listener->path);
	listener->inode = 0;
}

int listener_open(struct listener *listener, const char *section, const struct config_socket *s, char *error,
		  size_t error_size)
{
	int rc = listener_check(section, s, error, error_size);

	memset(listener, 0, sizeof(*listener));
	listener->fd = -1;
	listener->lock = -1;
	if (rc != 0)
		return rc;
	listener->path = strdup(s->path);
	if (!listener->path) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	rc = take_lock(listener, section, error, error_size);
	if (rc == 0)
		rc = make_socket(listener, section, s, error, error_size);
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
