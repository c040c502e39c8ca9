/*
 * A service that asks all the time, as an outsider would write it: THREADS threads, every other one with a handle that
 * it keeps, the others with a new one for each question. Ends when standard input does; a line on standard output every
 * 500 answers says that it goes on.
 *
 *     APIKEY_KEY=… ./hammer SCOPE PAGE THREADS
 *     cc -pthread -o hammer hammer.c $(pkg-config --cflags --libs apikey)
 *
 * Exit code: 0 where each question was answered with ALLOW.
 */
#define _DEFAULT_SOURCE
#include <apikey.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, TIMEOUT_MS = 60000, EVERY = 500, PAUSE_US = 500 };

static const char *key, *scope, *page;
static atomic_bool done;
static atomic_ulong asked, allowed, longest_ms;
static char first_fault[512];
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
}

static void note_fault(int err, const struct apikey_result *result)
{
	pthread_mutex_lock(&fault_lock);
	if (!first_fault[0])
		snprintf(first_fault, sizeof(first_fault), "%s %s: %s", apikey_verdict_word(result->verdict),
			 apikey_reason_word(result->reason), err ? apikey_error() : "");
	pthread_mutex_unlock(&fault_lock);
}

static void ask(struct apikey *handle)
{
	unsigned long begin = now_ms(), took, longest = longest_ms, count;
	struct apikey_result result;
	int err = apikey_check(handle, key, scope, page, NULL, &result);

	took = now_ms() - begin;
	while (took > longest && !atomic_compare_exchange_weak(&longest_ms, &longest, took))
		;
	if (!err && result.verdict == APIKEY_ALLOW)
		allowed++;
	else
		note_fault(err, &result);
	count = ++asked;
	if (count % EVERY == 0) {
		printf("%lu\n", count);
		fflush(stdout);
	}
}

static void *run(void *keeps)
{
	struct apikey_options options = APIKEY_OPTIONS_INIT;
	struct apikey *handle = NULL;

	options.timeout_ms = TIMEOUT_MS;
	while (!done) {
		if (!handle && apikey_open(&options, &handle)) {
			fprintf(stderr, "%s\n", apikey_error());
			exit(2);
		}
		ask(handle);
		usleep(PAUSE_US);
		if (!keeps) {
			apikey_close(handle);
			handle = NULL;
		}
	}
	apikey_close(handle);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];
	int count = argc == 4 ? atoi(argv[3]) : 0;
	char byte;

	key = getenv("APIKEY_KEY");
	if (!key || count < 1 || count > THREADS_MAX) {
		fprintf(stderr, "usage: APIKEY_KEY=… %s SCOPE PAGE THREADS\n", argv[0]);
		return 2;
	}
	scope = argv[1];
	page = argv[2];
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, run, i % 2 ? &done : NULL))
			return 2;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	done = true;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	printf("asked %lu allowed %lu longest %lu ms\n", asked, allowed, longest_ms);
	if (first_fault[0])
		printf("first fault: %s\n", first_fault);
	return asked == allowed && asked > 0 ? 0 : 1;
}
