/* peer, permit, deny, store: the modules that remember nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/reasons.h"
#include "daemon/modules/table.h"
#include "proto/verdict.h"
#include "tests/unit/fake_host.h"

static struct fake_host host;

/* ---- peer: who is who, as this test says ---- */

struct passwd *__wrap_getpwnam(const char *name);
struct group *__wrap_getgrnam(const char *name);

static int database_errno; /* what the look-up fails with, for a name that is not there */

struct passwd *__wrap_getpwnam(const char *name)
{
	static struct passwd entry;

	if (strcmp(name, "ada") == 0) {
		entry.pw_uid = 1001;
	} else if (strcmp(name, "nobody") == 0) {
		entry.pw_uid = 65534;
	} else {
		errno = database_errno;
		return NULL;
	}
	return &entry;
}

struct group *__wrap_getgrnam(const char *name)
{
	static struct group entry;

	if (strcmp(name, "clients") == 0) {
		entry.gr_gid = 2001;
	} else if (strcmp(name, "nogroup") == 0) {
		entry.gr_gid = 65534;
	} else {
		errno = database_errno;
		return NULL;
	}
	return &entry;
}

static void test_peer_arguments(void **state)
{
	static const struct {
		const char *arguments, *error;
		int database, rc;
	} cases[] = {
		{"", "user: neither user nor group is given; at least one must be", 0, -EINVAL},
		{"user=bob", "user: there is no user 'bob'; a name or a number of one", 0, -EINVAL},
		{"user=ada,bob", "user: there is no user 'bob'; a name or a number of one", ENOENT, -EINVAL},
		{"user=ada group=clients,staff", "group: there is no group 'staff'; a name or a number of one", ESRCH,
		 -EINVAL},
		{"group=staff", "group: 'staff' could not be looked up: Input/output error", EIO, -EIO},
		{"user=bob", "user: 'bob' could not be looked up: Too many open files", EMFILE, -EMFILE},
		{"user=4294967295", "user: 4294967295 is no number of a user; at most 4294967294", 0, -EINVAL},
		{"group=99999999999999999999",
		 "group: 99999999999999999999 is no number of a group; at most 4294967294", 0, -EINVAL},
		{"user=-1", "user: there is no user '-1'; a name or a number of one", 0, -EINVAL},
		{"user=1x", "user: there is no user '1x'; a name or a number of one", 0, -EINVAL},
		{"user=65534",
		 "user: '65534' (65534) stands for everybody whom the kernel cannot translate; another user", 0,
		 -EINVAL},
		{"user=nobody",
		 "user: 'nobody' (65534) stands for everybody whom the kernel cannot translate; another user", 0,
		 -EINVAL},
		{"group=1,nogroup",
		 "group: 'nogroup' (65534) stands for everybody whom the kernel cannot translate; another group", 0,
		 -EINVAL},
		{"user=ada,", "host: user must be words with commas between, none of them empty", 0, -EINVAL},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		database_errno = cases[i].database;
		assert_int_equal(fake_open(&host, &module_peer, cases[i].arguments), cases[i].rc);
		assert_string_equal(host.error, cases[i].error);
	}
}

static void test_peer(void **state)
{
	static const struct {
		const char *arguments;
		uid_t uid;
		gid_t gid, others[3];
		uint32_t count;
		bool unknown; /* its supplementary groups could not be read */
		enum apikeyd_code code;
	} cases[] = {
		{"user=ada", 1001, 5, {0}, 0, false, APIKEYD_SUCCESS},
		{"user=ada", 1002, 5, {0}, 0, false, APIKEYD_CALLER},
		{"user=ada", 1001, 5, {0}, 0, true, APIKEYD_SUCCESS},
		{"user=ada", 0, 0, {0}, 0, false, APIKEYD_CALLER}, /* root, too */
		{"user=0", 0, 0, {0}, 0, false, APIKEYD_SUCCESS},
		{"user=7,ada,9", 9, 5, {0}, 0, false, APIKEYD_SUCCESS},
		{"user=2001", 5, 2001, {2001}, 1, false, APIKEYD_CALLER}, /* a gid is no uid */
		{"group=1001", 1001, 5, {6}, 1, false, APIKEYD_CALLER},
		{"group=clients", 5, 2001, {0}, 0, false, APIKEYD_SUCCESS},
		{"group=clients", 5, 2001, {0}, 0, true, APIKEYD_SUCCESS},
		{"group=clients", 5, 6, {7, 8, 2001}, 3, false, APIKEYD_SUCCESS},
		{"group=clients", 5, 6, {2001, 8, 7}, 3, false, APIKEYD_SUCCESS},
		{"group=clients", 5, 6, {7, 8, 9}, 3, false, APIKEYD_CALLER},
		{"group=clients", 5, 6, {2001}, 0, false, APIKEYD_CALLER},
		/* What could not be read is not believed, whatever stands there. */
		{"group=clients", 5, 6, {2001}, 1, true, APIKEYD_CALLER},
		{"group=3,clients", 5, 6, {3}, 1, false, APIKEYD_SUCCESS},
		{"user=ada group=clients", 5, 6, {2001}, 1, false, APIKEYD_SUCCESS},
		{"user=ada group=clients", 1001, 6, {7}, 1, true, APIKEYD_SUCCESS},
		{"user=ada group=clients", 5, 6, {7}, 1, true, APIKEYD_CALLER},
		{"user=4294967294", 4294967294u, 6, {0}, 0, false, APIKEYD_SUCCESS},
		{"user=0,4294967294", (uid_t)-1, (gid_t)-1, {0}, 0, false, APIKEYD_CALLER},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct apikeyd_request request = fake_request(APIKEYD_GROUP_CALLER);

		request.uid = cases[i].uid;
		request.gid = cases[i].gid;
		request.gids = cases[i].others;
		request.gid_count = cases[i].count;
		request.gids_known = !cases[i].unknown;
		fake_open_good(&host, &module_peer, cases[i].arguments);
		if (fake_ask(&host, &request) != cases[i].code)
			fail_msg("case %u: %s", i, cases[i].arguments);
		assert_string_equal(host.detail, "");
		request.explain = true;
		assert_int_equal(fake_ask(&host, &request), cases[i].code);
		assert_int_equal(host.detail[0] != '\0', cases[i].code == APIKEYD_CALLER);
		fake_close(&host);
	}
}

static void test_peer_explain(void **state)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_CALLER);

	(void)state;
	request.explain = true;
	request.gids_known = false;
	fake_open_good(&host, &module_peer, "group=clients");
	fake_ask(&host, &request);
	assert_string_equal(host.detail, "uid 1000, gid 1000: not listed, and its other groups could not be read");
	fake_close(&host);
	fake_open_good(&host, &module_peer, "user=ada");
	fake_ask(&host, &request);
	assert_string_equal(host.detail, "uid 1000, gid 1000: not listed");
	fake_close(&host);
}

/* ---- permit, deny ---- */

static void test_permit(void **state)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_CALLER);

	(void)state;
	/* It must not stand where it would let more in than a caller. */
	assert_int_equal(module_permit.groups, APIKEYD_GROUP_CALLER);
	assert_int_equal(fake_open(&host, &module_permit, "user=ada"), -EINVAL);
	fake_open_good(&host, &module_permit, "");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	fake_close(&host);
}

static void test_deny(void **state)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_ACCOUNT);
	unsigned denies = 0;

	(void)state;
	fake_open_good(&host, &module_deny, "");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_POLICY);
	fake_close(&host);
	for (int reason = 0; reason < REASON_COUNT; reason++) {
		char arguments[64];
		enum apikeyd_code code;

		snprintf(arguments, sizeof(arguments), "reason=%s", reason_word((enum reason)reason));
		if (verdict_of((enum reason)reason) != VERDICT_DENY) {
			assert_int_equal(fake_open(&host, &module_deny, arguments), -EINVAL);
			continue;
		}
		denies++;
		fake_open_good(&host, &module_deny, arguments);
		assert_true(reasons_code(reason_word((enum reason)reason), &code));
		assert_int_equal(fake_ask(&host, &request), code);
		fake_close(&host);
	}
	assert_int_equal(denies, 20);
	assert_int_equal(fake_open(&host, &module_deny, "reason=success"), -EINVAL);
	assert_int_equal(fake_open(&host, &module_deny, "reason=ignore"), -EINVAL);
}

/* ---- store ---- */

static void test_store(void **state)
{
	static const enum apikeyd_code codes[] = {APIKEYD_SUCCESS, APIKEYD_UNKNOWN_KEY, APIKEYD_STALE,
						  APIKEYD_NOT_LOADED, APIKEYD_NO_PEPPER};
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_KEY);

	(void)state;
	assert_int_equal(module_store.groups, APIKEYD_GROUP_KEY);
	assert_int_equal(module_store.flags, APIKEYD_IDENTIFIES | APIKEYD_ASK_AGAIN);
	fake_open_good(&host, &module_store, "");
	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		host.store_code = codes[i];
		assert_int_equal(fake_ask(&host, &request), codes[i]);
		assert_int_equal(host.store_calls, i + 1);
	}
	fake_close(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peer_arguments), cmocka_unit_test(test_peer), cmocka_unit_test(test_peer_explain),
		cmocka_unit_test(test_permit),	       cmocka_unit_test(test_deny), cmocka_unit_test(test_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
