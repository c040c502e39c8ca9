#include "daemon/listeners.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/log.h"
#include "daemon/user.h"

enum { LINE_SIZE = 1024 };

/* ---- checks ---- */

/* Two paths, spelt otherwise, that are one: the same name in the same directory. */
static bool same_place(const char *a, const char *b)
{
	const char *name_a = strrchr(a, '/') + 1, *name_b = strrchr(b, '/') + 1;
	char directory[LINE_SIZE];
	struct stat st_a, st_b;

	if (strcmp(name_a, name_b) != 0)
		return false;
	snprintf(directory, sizeof(directory), "%.*s", (int)(name_a - a), a);
	if (stat(directory, &st_a) != 0)
		return false;
	snprintf(directory, sizeof(directory), "%.*s", (int)(name_b - b), b);
	return stat(directory, &st_b) == 0 && st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}

/* The n-th socket of a configuration, and its section's name; the last one is [admin]. NULL past the end. */
static const struct config_socket *socket_at(const struct config *config, unsigned n, char section[CONFIG_SECTION_SIZE])
{
	if (n > config->check_count)
		return NULL;
	if (n == config->check_count) {
		snprintf(section, CONFIG_SECTION_SIZE, "admin");
		return &config->admin;
	}
	config_socket_section(&config->check[n], section);
	return &config->check[n];
}

/* One that belongs to no section would have callers that nobody ever answers. */
static void check_passed(const struct config *config, const struct passed *passed, listeners_fault fault, void *data)
{
	char section[CONFIG_SECTION_SIZE], line[LINE_SIZE], where[LINE_SIZE / 2];

	for (unsigned i = 0; passed && i < passed->count; i++) {
		const struct passed_socket *socket = &passed->sockets[i];
		bool known = false;

		for (unsigned n = 0; !known && socket_at(config, n, section); n++)
			known = strcmp(section, socket->name) == 0;
		if (known)
			continue;
		snprintf(
			line, sizeof(line),
			"%s: passed socket %s (%s): there is no section [%s]; FileDescriptorName= must be socket, admin, or "
			"the whole name of a [socket NAME]",
			config_where(config, "", "", where, sizeof(where)), socket->name, socket->path, socket->name);
		fault(data, line);
	}
}

void listeners_check(const struct config *config, const struct passed *passed, listeners_fault fault, void *data)
{
	char section[CONFIG_SECTION_SIZE], other[CONFIG_SECTION_SIZE], line[LINE_SIZE], where[LINE_SIZE / 2];
	const struct config_socket *s;

	check_passed(config, passed, fault, data);
	for (unsigned i = 0; (s = socket_at(config, i, section)); i++) {
		if (passed_find(passed, section))
			continue;
		if (listener_check(config, section, s, line, sizeof(line)) != 0) {
			fault(data, line);
			continue;
		}
		for (unsigned k = 0; k < i; k++) {
			if (!same_place(s->path, config->check[k].path))
				continue;
			snprintf(line, sizeof(line), "%s: [%s] path = %s: is the path of [%s], %s",
				 config_where(config, section, "path", where, sizeof(where)), section, s->path,
				 config_socket_section(&config->check[k], other), config->check[k].path);
			fault(data, line);
		}
	}
}

/* ---- all of them ---- */

/* False without memory. */
static bool bind_stack(struct listeners_socket *socket, const char *stack)
{
	if (!stack || !*stack)
		return true;
	socket->stack = strdup(stack);
	return socket->stack != NULL;
}

/* Whom a passed socket lets in is its unit's to say; what the configuration says of that has no effect. */
static void warn_of_access(const char *section, const struct config_socket *config, const struct passed_socket *socket)
{
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (lstat(socket->path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	if (st.st_mode & 0777 & ~config->mode)
		log_warning("[%s] mode = %04o has no effect on the socket that was passed, %s: its mode is %04o, which "
			    "lets more in; SocketMode= in its unit decides",
			    section, (unsigned)config->mode, socket->path, (unsigned)(st.st_mode & 0777));
	if (*config->owner && user_uid(config->owner, &uid) && uid != st.st_uid)
		log_warning("[%s] owner = %s has no effect on the socket that was passed, %s; SocketUser= in its unit "
			    "decides",
			    section, config->owner, socket->path);
	if (*config->group && user_gid(config->group, &gid) && gid != st.st_gid)
		log_warning("[%s] group = %s has no effect on the socket that was passed, %s; SocketGroup= in its unit "
			    "decides",
			    section, config->group, socket->path);
}

static int open_one(struct listeners *listeners, const struct config *config, const char *section,
		    const struct config_socket *wanted, const struct passed *passed, char *error, size_t error_size)
{
	struct listeners_socket *socket = &listeners->sockets[listeners->count];
	const struct passed_socket *there = passed_find(passed, section);
	int rc;

	if (there)
		rc = listener_adopt(&socket->listener, there->fd, there->path, error, error_size);
	else
		rc = listener_open(&socket->listener, config, section, wanted, error, error_size);
	if (rc != 0)
		return rc;
	listeners->count++;
	socket->all = listeners;
	socket->service = wanted->stack ? RPC_SERVICE_CHECK : RPC_SERVICE_ADMIN;
	if (there)
		warn_of_access(section, wanted, there);
	if (bind_stack(socket, wanted->stack))
		return 0;
	snprintf(error, error_size, "no memory");
	return -ENOMEM;
}

int listeners_open(struct listeners *listeners, const struct config *config, const struct passed *passed, char *error,
		   size_t error_size)
{
	char section[CONFIG_SECTION_SIZE];
	const struct config_socket *s;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && (s = socket_at(config, i, section)); i++)
		rc = open_one(listeners, config, section, s, passed, error, error_size);
	if (rc != 0) {
		listeners_stop(listeners);
		listeners_deinit(listeners);
	}
	return rc;
}

static void on_accepted(void *data, int fd)
{
	struct listeners_socket *socket = data;

	socket->all->accepted(socket->all->data, fd, socket->service, socket->stack);
}

int listeners_start(struct listeners *listeners, uv_loop_t *loop, listeners_accepted accepted, void *data)
{
	int rc = 0;

	listeners->accepted = accepted;
	listeners->data = data;
	for (unsigned i = 0; rc == 0 && i < listeners->count; i++) {
		struct listeners_socket *socket = &listeners->sockets[i];

		rc = listener_start(&socket->listener, loop, on_accepted, socket);
		log_info("listens on %s%s%s%s%s", socket->listener.path, socket->listener.adopted ? " (passed)" : "",
			 socket->stack ? " (stack " : "", socket->stack ? socket->stack : "", socket->stack ? ")" : "");
	}
	return rc;
}

static bool is_held(const struct listeners_socket *socket)
{
	return socket->listener.adopted && socket->service == RPC_SERVICE_CHECK;
}

bool listeners_hold(struct listeners *listeners)
{
	bool any = false;

	for (unsigned i = 0; i < listeners->count; i++) {
		if (!is_held(&listeners->sockets[i]))
			continue;
		listener_hold(&listeners->sockets[i].listener);
		any = true;
	}
	return any;
}

void listeners_go_on(struct listeners *listeners)
{
	for (unsigned i = 0; i < listeners->count; i++) {
		if (is_held(&listeners->sockets[i]))
			listener_go_on(&listeners->sockets[i].listener);
	}
}

void listeners_stop(struct listeners *listeners)
{
	for (unsigned i = 0; i < listeners->count; i++)
		listener_stop(&listeners->sockets[i].listener);
}

void listeners_deinit(struct listeners *listeners)
{
	for (unsigned i = 0; i < listeners->count; i++)
		free(listeners->sockets[i].stack);
	listeners->count = 0;
}
