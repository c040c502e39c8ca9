#include "daemon/config_table.h"

#include <string.h>

#define AT(field) offsetof(struct config, field)
#define MS_MAX	  86400000u /* a day */

const struct config_setting config_settings[] = {
	{"socket", "path", CONFIG_SOCKET, AT(check[0].path), 0, 0, "/run/apikeyd/check.sock", true,
	 "Where services ask."},
	{"socket", "owner", CONFIG_NAME, AT(check[0].owner), 0, 0, "", true,
	 "User that owns the socket, a name or a number; empty: the daemon's own."},
	{"socket", "group", CONFIG_NAME, AT(check[0].group), 0, 0, "", true,
	 "Group of the socket, a name or a number; empty: the daemon's own."},
	{"socket", "mode", CONFIG_MODE, AT(check[0].mode), 0, 0777, "0660", true,
	 "Permissions of the socket, octal: who may write to it may ask."},
	{"socket", "stack", CONFIG_STACK, AT(check[0].stack), 0, 0, "", true,
	 "Stack that judges all that is asked here; empty: the one that the request names, else `default`."},

	{"admin", "path", CONFIG_SOCKET, AT(admin.path), 0, 0, "/run/apikeyd/admin.sock", true,
	 "Where administrators change things."},
	{"admin", "owner", CONFIG_NAME, AT(admin.owner), 0, 0, "", true,
	 "User that owns the socket; empty: the daemon's own."},
	{"admin", "group", CONFIG_NAME, AT(admin.group), 0, 0, "", true,
	 "Group of the socket; empty: the daemon's own."},
	{"admin", "mode", CONFIG_MODE, AT(admin.mode), 0, 0777, "0600", true,
	 "Permissions of the socket, octal; the peer's user is looked at as well."},
	{"admin", "users", CONFIG_NAMES, AT(admin_users), 0, 0, "root", false,
	 "Users that may administer, names or numbers, comma-separated; root and the daemon's own user always may."},

	{"database", "conninfo", CONFIG_TEXT, AT(conninfo), 0, 0, "dbname=apikeyd user=apikeyd", false,
	 "libpq connection string or URI; a password belongs into a file named by passfile=, which may be a credential."},
	{"database", "role", CONFIG_TEXT, AT(role), 0, 0, "apikeyd_check", false, "SET ROLE for reading; empty: none."},
	{"database", "admin_conninfo", CONFIG_TEXT, AT(admin_conninfo), 0, 0, "", false,
	 "The same for administration; empty: as conninfo."},
	{"database", "admin_role", CONFIG_TEXT, AT(admin_role), 0, 0, "apikeyd_admin", false,
	 "SET ROLE for administration; empty: none."},
	{"database", "insecure_remote", CONFIG_BOOL, AT(insecure_remote), 0, 0, "no", false,
	 "Whether a database on another host may do without sslmode=verify-full."},
	{"database", "connect_timeout_ms", CONFIG_MS, AT(connect_timeout_ms), 100, MS_MAX, "5000", false,
	 "How long connecting may take."},
	{"database", "statement_timeout_ms", CONFIG_MS, AT(statement_timeout_ms), 100, MS_MAX, "10000", false,
	 "How long a poll or an administrative change may take."},
	{"database", "load_timeout_ms", CONFIG_MS, AT(load_timeout_ms), 1000, MS_MAX, "600000", false,
	 "How long one statement of a full load may take."},
	{"database", "keepalive_ms", CONFIG_MS, AT(keepalive_ms), 1000, MS_MAX, "5000", false,
	 "TCP keepalive, and how long sent bytes may go unacknowledged."},
	{"database", "backoff_min_ms", CONFIG_MS, AT(backoff_min_ms), 10, MS_MAX, "100", false,
	 "Pause after a first failed attempt to connect; doubled after each further one."},
	{"database", "backoff_max_ms", CONFIG_MS, AT(backoff_max_ms), 10, MS_MAX, "5000", false,
	 "The longest such pause."},
	{"database", "poll_ms", CONFIG_MS, AT(poll_ms), 10, 60000, "200", false,
	 "How often the change log is read when nobody rings."},
	{"database", "guard_ms", CONFIG_MS, AT(guard_ms), 100, MS_MAX, "10000", false,
	 "How often the change triggers are looked at."},
	{"database", "apply_slice", CONFIG_COUNT, AT(apply_slice), 1, 1000000, "500", false,
	 "Changed things taken over in one turn of the loop at most; 0.1 ms ends a turn, too."},
	{"database", "admin_queue", CONFIG_COUNT, AT(admin_queue), 1, 100000, "64", false,
	 "Administrative requests that may wait for the database."},
	{"database", "admin_rows", CONFIG_COUNT, AT(admin_rows), 1, 100000, "1000", false,
	 "Rows that one list of an administrative answer carries at most."},

	{"database", "log_keep_ms", CONFIG_MS, AT(log_keep_ms), 1000, 30 * MS_MAX, "3600000", false,
	 "How long changes stay in the change log, for daemons that are behind."},
	{"database", "log_rows", CONFIG_COUNT, AT(log_rows), 1000, 1000000000, "1000000", false,
	 "Changes that stay in it at most; a daemon that needs an older one loads everything again."},
	{"database", "trim_ms", CONFIG_MS, AT(trim_ms), 0, MS_MAX, "60000", false,
	 "How often one of the daemons deletes what is beyond that; 0: not this one."},

	{"freshness", "max_stale_ms", CONFIG_MS, AT(max_stale_ms), 100, MS_MAX, "10000", false,
	 "How old the copy may be before answers become unavailable (stale)."},
	{"freshness", "offline_grace", CONFIG_GRACE, AT(offline_grace), 0, 0, "", false,
	 "How much longer known answers go on, marked stale, by patterns of scopes: *:read=1h, *:write=5min; empty: no longer."},
	{"freshness", "heartbeat_ms", CONFIG_MS, AT(heartbeat_ms), 100, 60000, "1000", false,
	 "How often this daemon registers in apikeyd.daemon; its lease is max_stale_ms, the longest offline_grace and four of these."},
	{"freshness", "verify_ms", CONFIG_MS, AT(verify_ms), 0, MS_MAX, "10000", false,
	 "How often a range of the copy is compared with the database; 0: only when asked for."},
	{"freshness", "verify_things", CONFIG_COUNT, AT(verify_things), 1, 100000, "1000", false,
	 "Things of such a range; the next poll waits for it."},
	{"freshness", "on_history_loss", CONFIG_LOSS, AT(on_history_loss), 0, 0, "keep", false,
	 "When the database has lost history, until that is accepted: keep denies what was denied, refuse answers nothing."},

	{"state", "directory", CONFIG_PLACE, AT(state_dir), 0, 0, "/var/lib/apikeyd", true,
	 "Where denials are remembered, and verdicts wait for the database; the daemon's alone. Empty: in memory only."},
	{"state", "denials", CONFIG_COUNT, AT(denials), 1, 100000000, "1000000", true,
	 "Keys remembered as revoked, retired or disabled; with more, a lost history is answered as by refuse."},

	{"ledger", "spool_bytes", CONFIG_BYTES, AT(ledger_spool_bytes), 65536, 4294967295u, "67108864", true,
	 "Room for verdicts that are not yet in the database, 384 bytes each."},
	{"ledger", "flush_ms", CONFIG_MS, AT(ledger_flush_ms), 10, MS_MAX, "10000", false,
	 "How often they are sent there; the more there are the later, up to a minute."},
	{"ledger", "batch_rows", CONFIG_COUNT, AT(ledger_batch_rows), 1, 1000000, "10000", false,
	 "Rows of a batch at most; what is more goes in several."},
	{"ledger", "sync_ms", CONFIG_MS, AT(ledger_sync_ms), 0, MS_MAX, "1000", false,
	 "How often the spool is brought to the disk, for the loss of the whole host; 0: never."},
	{"ledger", "anchor_ms", CONFIG_MS, AT(ledger_anchor_ms), 100, MS_MAX, "600000", false,
	 "How often the log says the head of the last batch."},
	{"ledger", "events_per_second", CONFIG_COUNT, AT(ledger_events_per_second), 0, 1000000, "100", false,
	 "Denials and faults of one caller and reason that are recorded one by one; the others are counted."},
	{"ledger", "sources_per_minute", CONFIG_COUNT, AT(ledger_sources_per_minute), 0, 1000000, "1000", false,
	 "Counts of keys that were not proven that begin with an address; the others have none."},
	{"ledger", "denials_per_minute", CONFIG_COUNT, AT(ledger_denials_per_minute), 0, 1000000, "1000", false,
	 "Counts of denials that begin with scope and page; the others have none."},

	{"key", "brand", CONFIG_BRAND, AT(brand), 0, 0, "ak", false,
	 "What every key begins with: 1 to 16 of a-z 0-9, the first a letter."},
	{"key", "pepper_file", CONFIG_FILE, AT(pepper_file), 0, 0, "credential:pepper", false,
	 "The secret that stored hashes are made with: a path, or credential:NAME as the service manager passes it."},

	{"stacks", "dir", CONFIG_PATH, AT(stack_dir), 0, 0, "/etc/apikeyd/stacks", false,
	 "Where the stacks are, each a file."},
	{"stacks", "module_dir", CONFIG_PATH, AT(module_dir), 0, 0, APIKEYD_MODULE_DIR, false,
	 "Where modules are that do not come with the daemon, each a shared object."},

	{"explain", "users", CONFIG_NAMES, AT(explain_users), 0, 0, "root", false,
	 "Users that may ask `explain`, names or numbers, comma-separated; the daemon's own user always may."},

	{"confine", "seccomp", CONFIG_CONFINE, AT(seccomp), CONFIG_CONFINE_OFF, 0, "enforce", true,
	 "System calls beyond those that it needs: off, log, enforce (as far as the kernel can), require (or no start)."},
	{"confine", "landlock", CONFIG_CONFINE, AT(landlock), CONFIG_CONFINE_ENFORCE, 0, "enforce", true,
	 "Files and ports beyond those that it needs: off, enforce (as far as the kernel can), require (or no start)."},
	{"confine", "new_code", CONFIG_BOOL, AT(new_code), 0, 0, "no", true,
	 "Whether memory may become executable after the start, as a module with a compiler of its own needs it."},
	{"confine", "read", CONFIG_PATHS, AT(confine_read), 0, 0, "", true,
	 "Further files and directories to read, comma-separated: for modules, name services, Kerberos."},
	{"confine", "write", CONFIG_PATHS, AT(confine_write), 0, 0, "", true,
	 "Files and directories to read and write, comma-separated: for modules."},
	{"confine", "connect", CONFIG_PORTS, AT(confine_connect), 0, 0, "", true,
	 "TCP ports to connect to beside the database's and 53, comma-separated; any: all."},

	{"limits", "message_bytes", CONFIG_BYTES, AT(message_bytes), 1024, 65536, "65536", false,
	 "The longest message."},
	{"limits", "read_bytes", CONFIG_BYTES, AT(read_bytes), 4096, 16777216, "262144", false,
	 "What one read of a connection takes at most."},
	{"limits", "connections", CONFIG_COUNT, AT(connections), 1, 1000000, "4096", false,
	 "Connections in all, all sockets together."},
	{"limits", "connections_per_uid", CONFIG_COUNT, AT(connections_per_uid), 1, 1000000, "2048", false,
	 "Connections of one user."},
	{"limits", "in_flight_per_connection", CONFIG_COUNT, AT(in_flight_per_connection), 1, 1000000, "1024", false,
	 "Requests of one connection that wait for something."},
	{"limits", "waiting", CONFIG_COUNT, AT(waiting), 1, 10000000, "65536", false,
	 "Requests that wait for a revision or a module, in all."},
	{"limits", "waiting_bytes", CONFIG_BYTES, AT(waiting_bytes), 65536, 4294967295u, "268435456", false,
	 "Memory that waiting requests may take, in all."},
	{"limits", "module_pending", CONFIG_COUNT, AT(module_pending), 1, 1000000, "1024", false,
	 "Requests that wait for one line of a module."},
	{"limits", "output_bytes_per_connection", CONFIG_BYTES, AT(output_bytes_per_connection), 4096, 1073741824,
	 "4194304", false,
	 "Bytes queued to a peer that does not read; at half of it its requests are left unread, beyond it is closed."},
	{"limits", "partial_message_ms", CONFIG_MS, AT(partial_message_ms), 10, MS_MAX, "10000", false,
	 "How long a message may be half there."},
	{"limits", "idle_ms", CONFIG_MS, AT(idle_ms), 0, MS_MAX, "0", false,
	 "How long a connection may be silent; 0: for ever."},
	{"limits", "pairs", CONFIG_COUNT, AT(pairs), 1, 1024, "1024", false, "Pairs of one check_many."},
	{"limits", "pages_per_answer", CONFIG_COUNT, AT(pages_per_answer), 1, 10000, "500", false,
	 "Pages that one answer to `pages` names."},
	{"limits", "deadline_ms", CONFIG_MS, AT(deadline_ms), 1, 600000, "1000", false,
	 "How long a request may wait that names no deadline."},
	{"limits", "deadline_max_ms", CONFIG_MS, AT(deadline_max_ms), 1, 600000, "60000", false,
	 "The longest deadline that a request may name; a longer one is cut to it."},
	{"limits", "start_ms", CONFIG_MS, AT(start_ms), 0, 600000, "2000", true,
	 "How long who comes to a socket of the service manager's waits for the first copy; 0: answered at once."},
	{"limits", "stop_ms", CONFIG_MS, AT(stop_ms), 0, 600000, "5000", false,
	 "How long a stop waits for what is in flight."},

	{"log", "level", CONFIG_LEVEL, AT(log_level), 0, 0, "info", false, "error, warning, info or debug."},
};

_Static_assert(sizeof(config_settings) / sizeof(config_settings[0]) <= CONFIG_SETTINGS_MAX,
	       "the reader's line numbers");
const unsigned config_setting_count = sizeof(config_settings) / sizeof(config_settings[0]);

const char *config_section_at(unsigned n)
{
	const char *last = "";

	for (unsigned i = 0; i < config_setting_count; i++) {
		if (strcmp(config_settings[i].section, last) == 0)
			continue;
		last = config_settings[i].section;
		if (n-- == 0)
			return last;
	}
	return NULL;
}

const struct config_setting *config_find(const char *section, const char *name)
{
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];

		if (strcmp(s->section, section) == 0 && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* Levenshtein's distance, of names that are short enough to matter. */
static unsigned distance(const char *a, const char *b)
{
	enum { LONGEST = 48 };
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[LONGEST + 1];

	if (la > LONGEST || lb > LONGEST)
		return LONGEST;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

static unsigned near_enough(const char *name)
{
	return (unsigned)strlen(name) / 3 + 1;
}

const char *config_nearest_section(const char *section)
{
	unsigned best = near_enough(section) + 1;
	const char *found = NULL, *s;

	for (unsigned n = 0; (s = config_section_at(n)); n++) {
		unsigned d = distance(section, s);

		if (d < best) {
			best = d;
			found = s;
		}
	}
	return found;
}

const struct config_setting *config_nearest(const char *section, const char *name)
{
	const struct config_setting *found = NULL;
	unsigned best = near_enough(name) + 1;

	/* The right name in the wrong section is nearer than any misspelling. */
	for (unsigned i = 0; i < config_setting_count; i++) {
		const struct config_setting *s = &config_settings[i];
		unsigned d = 2 * distance(name, s->name) + (strcmp(section, s->section) != 0);

		if (d < 2 * best && d / 2 < best) {
			best = d / 2;
			found = s;
			if (d <= 1)
				break;
		}
	}
	return found;
}
