#include "daemon/mirror/copy_internal.h"

#include <errno.h>
#include <string.h>

/* Whether an entry stands before a slug; entries with the same text stand in the order of their memory, `tie`. */
static bool is_before(const struct page_entry *entry, const char *slug, uint32_t len, uintptr_t tie)
{
	int order = memcmp(entry->slug, slug, entry->len < len ? entry->len : len);

	if (order || entry->len != len)
		return order ? order < 0 : entry->len < len;
	return (uintptr_t)entry->slug < tie;
}

struct place {
	uint32_t run, at;
};

/* The place of the first entry that is not before; past the last entry of the last run where all are. */
static struct place place_of(const struct page_list *list, const char *slug, uint32_t len, uintptr_t tie)
{
	uint32_t low = 0, high = list->count;

	if (!list->count)
		return (struct place){0};
	/* The run is the last one that begins before it: the next begins with what is not. */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (is_before(&list->runs[middle].entries[0], slug, len, tie))
			low = middle + 1;
		else
			high = middle;
	}
	struct place place = {.run = low ? low - 1 : 0};
	const struct page_run *run = &list->runs[place.run];

	for (high = run->count; place.at < high;) {
		uint32_t middle = place.at + (high - place.at) / 2;

		if (is_before(&run->entries[middle], slug, len, tie))
			place.at = middle + 1;
		else
			high = middle;
	}
	if (place.at == run->count && place.run + 1 < list->count)
		place = (struct place){.run = place.run + 1};
	return place;
}

/* An empty run at place `at` of the list, with room for `room` entries. Without memory the list is as it was. */
static int run_insert(struct copy *copy, struct page_list *list, uint32_t at, uint32_t room)
{
	struct page_run fresh = {.entries = heap_grow(copy, NULL, room * sizeof(*fresh.entries)), .room = room};

	if (!fresh.entries)
		return -ENOMEM;
	if (list->count == list->room) {
		uint32_t more = list->room ? list->room * 2 : 1;
		struct page_run *runs = heap_grow(copy, list->runs, more * sizeof(*runs));

		if (!runs) {
			heap_free(copy, fresh.entries);
			return -ENOMEM;
		}
		list->runs = runs;
		list->room = more;
	}
	memmove(&list->runs[at + 1], &list->runs[at], (list->count - at) * sizeof(fresh));
	list->runs[at] = fresh;
	list->count++;
	return 0;
}

static void run_remove(struct copy *copy, struct page_list *list, uint32_t at)
{
	heap_free(copy, list->runs[at].entries);
	list->count--;
	memmove(&list->runs[at], &list->runs[at + 1], (list->count - at) * sizeof(*list->runs));
}

/* A run's entries from place `at` on go to the end of another, which has room. */
static void run_move(struct page_run *from, uint32_t at, struct page_run *to)
{
	memcpy(&to->entries[to->count], &from->entries[at], (from->count - at) * sizeof(*to->entries));
	to->count += from->count - at;
	from->count = at;
}

/* Room for one more entry at a place, which moves along. */
static int make_room(struct copy *copy, struct page_list *list, struct place *place)
{
	if (!list->count)
		return run_insert(copy, list, 0, PAGE_RUN_FIRST);
	struct page_run *run = &list->runs[place->run];

	if (run->count < run->room)
		return 0;
	if (run->room < PAGE_RUN) {
		struct page_entry *entries = heap_grow(copy, run->entries, run->room * 2 * sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		run->entries = entries;
		run->room *= 2;
		return 0;
	}
	if (run_insert(copy, list, place->run + 1, PAGE_RUN))
		return -ENOMEM;
	run = &list->runs[place->run];
	/* What comes in order leaves full runs behind. */
	uint32_t half = place->at == PAGE_RUN ? PAGE_RUN : PAGE_RUN / 2;

	run_move(run, half, run + 1);
	if (place->at > half || half == PAGE_RUN)
		*place = (struct place){place->run + 1, place->at - half};
	return 0;
}

int page_list_add(struct copy *copy, struct page_list *list, struct text slug, rule_handle page)
{
	struct place place = place_of(list, slug.data, slug.len, (uintptr_t)slug.data);

	if (make_room(copy, list, &place))
		return -ENOMEM;
	struct page_run *run = &list->runs[place.run];

	memmove(&run->entries[place.at + 1], &run->entries[place.at], (run->count - place.at) * sizeof(*run->entries));
	run->entries[place.at] = (struct page_entry){slug.data, slug.len, page};
	run->count++;
	return 0;
}

/* Two neighbours that have become small are one, or the list of runs would stay as long as it ever was. */
static bool join(struct copy *copy, struct page_list *list, uint32_t left)
{
	struct page_run *run = &list->runs[left];

	if (run[0].count + run[1].count > PAGE_RUN / 2)
		return false;
	run_move(&run[1], 0, &run[0]);
	run_remove(copy, list, left + 1);
	return true;
}

void page_list_remove(struct copy *copy, struct page_list *list, struct text slug)
{
	struct place place = place_of(list, slug.data, slug.len, (uintptr_t)slug.data);

	if (!list->count)
		return;
	struct page_run *run = &list->runs[place.run];

	if (place.at == run->count || run->entries[place.at].slug != slug.data)
		return;
	run->count--;
	memmove(&run->entries[place.at], &run->entries[place.at + 1], (run->count - place.at) * sizeof(*run->entries));
	if (run->count == 0) {
		run_remove(copy, list, place.run);
		if (!list->count)
			page_list_deinit(copy, list);
		return;
	}
	if (place.run + 1 < list->count && join(copy, list, place.run))
		return;
	if (place.run > 0)
		join(copy, list, place.run - 1);
}

void page_list_deinit(struct copy *copy, struct page_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		heap_free(copy, list->runs[i].entries);
	heap_free(copy, list->runs);
	*list = (struct page_list){0};
}

void copy_walk_pages(const struct copy *copy, rule_handle organization, struct rpc_text after, copy_page_each each,
		     void *data)
{
	if (copy->loading || !organization_is_there(copy, organization))
		return;
	const struct page_list *list = &organization_at(copy, organization)->pages;
	struct place place = {0};

	/* Past all that have this very text. */
	if (after.data)
		place = place_of(list, after.data, after.len, UINTPTR_MAX);
	for (; place.run < list->count; place = (struct place){.run = place.run + 1}) {
		const struct page_run *run = &list->runs[place.run];

		for (; place.at < run->count; place.at++) {
			const struct page_entry *entry = &run->entries[place.at];
			struct copy_page page;

			if (copy_page(copy, entry->page, &page) && page.slug.data == entry->slug &&
			    page.organization == organization && !each(data, &page))
				return;
		}
	}
}
