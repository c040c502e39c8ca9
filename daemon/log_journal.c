#include "daemon/log_journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	struct sockaddr_un address;
	int fd; /* -1: none */
} journal = {.fd = -1};

/* ---- entries ---- */

static void put(struct log_entry *entry, const void *data, size_t len)
{
	memcpy(entry->bytes + entry->len, data, len);
	entry->len += len;
}

/* NAME=value and a line end; where the value has a line end of its own, NAME, a line end, its length, and all of it. */
void log_entry_add(struct log_entry *entry, const char *name, const void *value, size_t len)
{
	size_t name_len = strlen(name), room = sizeof(entry->bytes) - entry->len;
	uint8_t size[8];

	if (name_len + len + sizeof(size) + 2 > room) {
		entry->full = true;
		return;
	}
	put(entry, name, name_len);
	if (len > 0 && memchr(value, '\n', len)) {
		for (unsigned i = 0; i < sizeof(size); i++)
			size[i] = (uint8_t)((uint64_t)len >> (8 * i)); /* little endian everywhere */
		put(entry, "\n", 1);
		put(entry, size, sizeof(size));
	} else {
		put(entry, "=", 1);
	}
	if (len > 0)
		put(entry, value, len);
	put(entry, "\n", 1);
}

void log_entry_add_number(struct log_entry *entry, const char *name, uint64_t number)
{
	char text[24];

	log_entry_add(entry, name, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)number));
}

/* ---- the socket ---- */

static int reconnect(void)
{
	int rc = connect(journal.fd, (const struct sockaddr *)&journal.address, sizeof(journal.address));

	return rc == 0 ? 0 : -errno;
}

/*
 * Connected here, before the daemon confines itself, so that a line needs no path: what confines it must let it send on
 * this descriptor. A journal that is there again after it was away is connected to anew, which it should let it do as well
 * (connect on this socket of AF_UNIX; libpq does the same), and which costs the fields alone where it does not.
 */
int log_journal_open(const char *path)
{
	size_t len = strlen(path);
	int rc;

	if (len >= sizeof(journal.address.sun_path))
		return -ENAMETOOLONG;
	log_journal_close();
	journal.address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(journal.address.sun_path, path, len + 1);
	journal.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (journal.fd < 0)
		return -errno;
	rc = reconnect();
	if (rc != 0)
		log_journal_close();
	return rc;
}

void log_journal_close(void)
{
	if (journal.fd >= 0)
		close(journal.fd);
	journal.fd = -1;
}

/* Larger entries could go by a file in memory; ours have bounds that keep them below what a socket takes. */
int log_journal_send(const struct log_entry *entry)
{
	ssize_t n;

	if (journal.fd < 0)
		return -ENOTCONN;
	if (entry->full)
		return -EMSGSIZE;
	n = send(journal.fd, entry->bytes, entry->len, MSG_NOSIGNAL);
	if (n < 0 && (errno == ECONNREFUSED || errno == ECONNRESET || errno == ENOTCONN) && reconnect() == 0)
		n = send(journal.fd, entry->bytes, entry->len, MSG_NOSIGNAL);
	return n < 0 ? -errno : 0;
}
