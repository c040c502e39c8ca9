/* doctor: the configuration and the stacks, by what the daemon and `stack check` themselves say of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/doctor.h"
#include "client/apikeyctl/program.h"

/* The daemon says it in one or several lines; the first is enough for one of ours. */
static void first_line(char *text)
{
	text[strcspn(text, "\n")] = '\0';
}

void doctor_read(struct doctor *doctor)
{
	char config[4096];
	char *argv[] = {doctor->binary, (char[]){"--print"}, (char[]){"--config"}, config, NULL};

	doctor->config_code = -ENOENT;
	if (!doctor->binary[0] || (access(doctor->config, F_OK) != 0 && errno == ENOENT))
		return;
	snprintf(config, sizeof(config), "%s", doctor->config);
	doctor->config_code = program_run(argv, &doctor->config_said);
	if (doctor->config_code == 0)
		doctor->no_memory |= !settings_read(&doctor->settings, doctor->config_said);
	else if (doctor->config_said)
		first_line(doctor->config_said);
}

/* It can be read: now all that it names, which the daemon's user and root can tell. */
static void config_test(struct doctor *doctor)
{
	char config[4096];
	char *argv[] = {doctor->binary, (char[]){"--test"}, (char[]){"--config"}, config, NULL};
	char *said = NULL;
	int code;

	if (geteuid() != 0 && !(doctor->user_known && geteuid() == doctor->uid)) {
		doctor_tell(doctor, "configuration", FINDING_OK, NULL,
			    "%s can be read; what it names is for root to test", doctor->config);
		return;
	}
	snprintf(config, sizeof(config), "%s", doctor->config);
	code = program_run(argv, &said);
	if (said)
		first_line(said);
	if (code == 0)
		doctor_tell(doctor, "configuration", FINDING_OK, NULL, "%s: fine", doctor->config);
	else
		doctor_tell(doctor, "configuration", FINDING_FAILED, "mend it; apikeyd -t tests all of it", "%s",
			    said ? said : strerror(-code));
	free(said);
}

void doctor_configuration(struct doctor *doctor)
{
	if (!doctor->binary[0])
		doctor_tell(doctor, "configuration", FINDING_UNKNOWN,
			    "install the package apikeyd here, or name the program with --apikeyd",
			    "there is no apikeyd on this host that could test it; its defaults are taken for granted");
	else if (doctor->config_code == -ENOENT)
		doctor_tell(doctor, "configuration", FINDING_FAILED, "apikeyctl setup makes one", "there is no %s",
			    doctor->config);
	else if (doctor->config_code < 0)
		doctor_tell(doctor, "configuration", FINDING_UNKNOWN, "see that it can be run", "%s cannot be run: %s",
			    doctor->binary, strerror(-doctor->config_code));
	else if (doctor->config_code > 0)
		doctor_tell(doctor, "configuration", FINDING_FAILED, "mend that line; apikeyd -t tests the file", "%s",
			    doctor->config_said);
	else
		config_test(doctor);
}

/* The first line with `part` in it, else the first of all; cut out of the text. */
static const char *line_with(char *text, const char *part)
{
	char *found = strstr(text, part);

	while (found && found > text && found[-1] != '\n')
		found--;
	first_line(found ? found : text);
	return found ? found : text;
}

void doctor_stacks(struct doctor *doctor)
{
	char directory[4096], modules[4096];
	char *argv[] = {(char[]){"/proc/self/exe"},
			(char[]){"stack"},
			(char[]){"check"},
			(char[]){"--dir"},
			directory,
			(char[]){"--module-dir"},
			modules,
			NULL};
	const char *stacks = settings_get(&doctor->settings, "stacks", "dir", "/etc/apikeyd/stacks");
	const char *where = settings_get(&doctor->settings, "stacks", "module_dir", NULL);
	char *said = NULL;
	int code;

	snprintf(directory, sizeof(directory), "%s", stacks);
	if (where)
		snprintf(modules, sizeof(modules), "%s", where);
	else
		argv[5] = NULL;
	code = program_run(argv, &said);
	if (code < 0) {
		doctor_tell(doctor, "stacks", FINDING_UNKNOWN, "apikeyctl stack check",
			    "apikeyctl cannot run itself: %s", strerror(-code));
	} else if (code != 0) {
		doctor_tell(doctor, "stacks", FINDING_FAILED, "mend it; apikeyctl stack check names all", "%s",
			    line_with(said, ": error: "));
	} else if (!strstr(said, "0 errors, 0 warnings")) {
		doctor_tell(doctor, "stacks", FINDING_WARNING, "see that it is meant; apikeyctl stack check names all",
			    "%s", line_with(said, ": warning: "));
	} else {
		doctor_tell(doctor, "stacks", FINDING_OK, NULL, "%s: nothing wrong", stacks);
	}
	free(said);
}
