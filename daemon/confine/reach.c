#include "daemon/confine/reach.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reach_directory(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		snprintf(out, size, ".");
	else
		snprintf(out, size, "%.*s", slash > path ? (int)(slash - path) : 1, path);
}

bool reach_add(struct reach *reach, const struct stat *st, unsigned use)
{
	for (unsigned i = 0; i < reach->count; i++) {
		struct reach_place *place = &reach->places[i];

		if (place->device == st->st_dev && place->inode == st->st_ino) {
			place->use |= use;
			return true;
		}
	}
	if (reach->count == reach->room) {
		unsigned room = reach->room ? 2 * reach->room : 32;
		struct reach_place *grown = reallocarray(reach->places, room, sizeof(*grown));

		if (!grown)
			return false;
		reach->places = grown;
		reach->room = room;
	}
	reach->places[reach->count++] = (struct reach_place){.device = st->st_dev, .inode = st->st_ino, .use = use};
	return true;
}

bool reach_add_port(struct reach *reach, uint16_t port)
{
	if (reach_find_port(reach, port))
		return true;
	if (port == 0)
		reach->any_port = true;
	else if (reach->port_count == REACH_PORTS_MAX)
		return false;
	else
		reach->ports[reach->port_count++] = port;
	return true;
}

bool reach_find_port(const struct reach *reach, uint16_t port)
{
	for (unsigned i = 0; i < reach->port_count; i++) {
		if (reach->ports[i] == port)
			return true;
	}
	return reach->any_port;
}

static bool is_place(const struct reach *reach, const char *path, unsigned use)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return false;
	for (unsigned i = 0; i < reach->count; i++) {
		const struct reach_place *place = &reach->places[i];

		if (place->device == st.st_dev && place->inode == st.st_ino)
			return (place->use & use) == use;
	}
	return false;
}

enum reach_found reach_find(const struct reach *reach, const char *path, unsigned use)
{
	char at[PATH_MAX], directory[PATH_MAX];
	bool missing = false;

	if (reach->any_path)
		return REACH_IN;
	/* Up to what is there; a directory that comes to be below a place is in reach. */
	snprintf(directory, sizeof(directory), "%s", path);
	while (!realpath(directory, at)) {
		if (strcmp(directory, "/") == 0 || strcmp(directory, ".") == 0)
			return REACH_NOTHING;
		reach_directory(directory, at, sizeof(at));
		memcpy(directory, at, sizeof(directory));
		missing = true;
	}
	for (;;) {
		if (is_place(reach, at, use))
			return REACH_IN;
		if (strcmp(at, "/") == 0)
			return missing ? REACH_NOTHING : REACH_OUT;
		reach_directory(at, directory, sizeof(directory));
		memcpy(at, directory, sizeof(at));
	}
}

void reach_deinit(struct reach *reach)
{
	free(reach->places);
	*reach = (struct reach){0};
}
