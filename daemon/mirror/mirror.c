#include "daemon/mirror/mirror.h"

#include <time.h>

int64_t mirror_boot_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void mirror_init(struct mirror *mirror)
{
	*mirror = (struct mirror){.last_now = INT64_MIN, .lease_until = INT64_MAX};
}

void mirror_deinit(struct mirror *mirror)
{
	copy_free(mirror->copy);
	mirror_init(mirror);
}

void mirror_lease(struct mirror *mirror, int64_t until)
{
	mirror->lease_until = until;
}

bool mirror_is_out(const struct mirror *mirror, int64_t boot_now)
{
	return boot_now > mirror->lease_until || mirror->refused;
}

void mirror_confirm(struct mirror *mirror, int64_t sent_at, int64_t database_time)
{
	/* What was sent earlier and ends later says nothing new. */
	if (sent_at < mirror->confirmed_at)
		return;
	mirror->confirmed_at = sent_at;
	mirror->database_time = database_time;
}

void mirror_publish(struct mirror *mirror, uint64_t rev, int64_t sent_at, int64_t database_time)
{
	copy_publish(mirror->copy, rev);
	mirror_confirm(mirror, sent_at, database_time);
	if (mirror->on_rev)
		mirror->on_rev(mirror->on_rev_data);
}

struct copy *mirror_swap(struct mirror *mirror, struct copy *copy, int64_t sent_at, int64_t database_time)
{
	struct copy *old = mirror->copy;

	mirror->copy = copy;
	mirror->history += old != NULL;
	/* As old as its own read says, be it older than what the last copy had come to. */
	mirror->confirmed_at = sent_at;
	mirror->database_time = database_time;
	if (mirror->on_rev)
		mirror->on_rev(mirror->on_rev_data);
	return old;
}

uint64_t mirror_rev(const struct mirror *mirror)
{
	return mirror->copy ? copy_rev(mirror->copy) : 0;
}

int64_t mirror_age_us(const struct mirror *mirror, int64_t boot_now)
{
	return mirror->copy ? boot_now - mirror->confirmed_at : INT64_MAX;
}

int64_t mirror_database_now(struct mirror *mirror, int64_t boot_now)
{
	int64_t now = mirror->database_time + (boot_now - mirror->confirmed_at);

	if (now > mirror->last_now)
		mirror->last_now = now;
	return mirror->last_now;
}
