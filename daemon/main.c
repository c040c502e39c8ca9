/*
 * apikeyd: options, and what a process that holds secrets does first. The rest is server.c's.
 * Exit codes: 0 done, 1 the configuration is wrong or the daemon cannot run, 2 wrong usage.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/broker.h"
#include "daemon/config.h"
#include "daemon/credential.h"
#include "daemon/log.h"
#include "daemon/log_journal.h"
#include "daemon/passed.h"
#include "daemon/server.h"

#define CONFIG_PATH "/etc/apikeyd/apikeyd.conf"

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, ERRORS_SIZE = 8192, DESCRIPTORS_OURS = 64 };

static const char usage[] =
	"usage: apikeyd [-c FILE] [-t [-n] | -T]\n"
	"\n"
	"  -c, --config FILE  the configuration (" CONFIG_PATH ")\n"
	"  -t, --test         test the configuration and what it names, and end\n"
	"  -n, --no-credentials\n"
	"                     with --test: leave out what the service manager passes\n"
	"  -T, --print        print the effective configuration, and end\n"
	"  -V, --version      print the version, and end\n"
	"  -h, --help         print this, and end\n"
	"\n"
	"Signals: SIGTERM and SIGINT stop it, after what is in flight; SIGHUP reads the configuration\n"
	"and the pepper again.\n"
	"Exit codes: 0 done; 1 the configuration is wrong, or the daemon cannot run; 2 wrong usage.\n"
	"See apikeyd(8) and apikeyd.conf(5).\n";

/* No core dump, and nobody of the same user looks into our memory: it has keys and peppers. */
static void protect(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
}

/* A descriptor a connection, as far as we are let. */
static void raise_descriptors(const struct config *config)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < (rlim_t)config->connections + DESCRIPTORS_OURS)
		log_warning("limits.connections = %u, but the system allows %llu descriptors; raise the limit "
			    "(LimitNOFILE=), or lower the setting",
			    config->connections, (unsigned long long)limit.rlim_max);
}

static int test(const char *path, struct config *config)
{
	char errors[ERRORS_SIZE];

	if (server_check(path, config, errors, sizeof(errors)) > 0) {
		fputs(errors, stderr);
		return EXIT_WRONG;
	}
	printf("%s: fine\n", path);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"test", no_argument, NULL, 't'},
		{"no-credentials", no_argument, NULL, 'n'},
		{"print", no_argument, NULL, 'T'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *path = CONFIG_PATH;
	bool only_test = false, only_print = false, no_credentials = false;
	char errors[ERRORS_SIZE];
	struct broker *broker = NULL;
	struct passed passed = {0};
	struct config *config;
	int option, code;

	while ((option = getopt_long(argc, argv, "c:tnTVh", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			path = optarg;
			break;
		case 't':
			only_test = true;
			break;
		case 'n':
			no_credentials = true;
			break;
		case 'T':
			only_print = true;
			break;
		case 'V':
			puts("apikeyd " APIKEYD_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "apikeyd: takes no argument such as %s\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	if (no_credentials && !only_test) {
		fprintf(stderr, "apikeyd: --no-credentials goes with --test alone\n%s", usage);
		return EXIT_USAGE;
	}
	if (no_credentials)
		credential_leave_out();
	protect();
	/* Before there is anything secret in memory. */
	if (!only_test && !only_print && broker_start(&broker, errors, sizeof(errors)) != 0) {
		fprintf(stderr, "apikeyd: %s\n", errors);
		return EXIT_WRONG;
	}
	if (!only_test && !only_print && passed_take(&passed, errors, sizeof(errors)) != 0) {
		fprintf(stderr, "apikeyd: %s\n", errors);
		broker_free(broker);
		return EXIT_WRONG;
	}
	/* The broker must not have that socket, nor what confines the daemon stand in its way. */
	if (!only_test && !only_print)
		log_open(LOG_JOURNAL_SOCKET);
	config = config_load(path, errors, sizeof(errors));
	if (!config) {
		fputs(errors, stderr);
		broker_free(broker);
		return EXIT_WRONG;
	}
	if (!only_test && !only_print) {
		raise_descriptors(config);
		code = server_run(path, config, &passed, broker);
		broker_free(broker);
		return code;
	}
	code = only_test ? test(path, config) : 0;
	if (only_print && code == 0)
		config_print(config, stdout);
	config_free(config);
	if (fflush(stdout) != 0)
		code = EXIT_WRONG;
	return code;
}
