#include "client/apikeyctl/keyin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "client/apikeyctl/text.h"

/* The value of APIKEY_KEY as it stood in the environment: the process's own memory, wiped once read. */
static char *keyin_environment;

void keyin_take_environment(void)
{
	keyin_environment = getenv("APIKEY_KEY");
	/* unsetenv only forgets the pointer; the text itself stays where it is until keyin_read wipes it. */
	unsetenv("APIKEY_KEY");
}

void keyin_deinit(struct keyin *key)
{
	explicit_bzero(key, sizeof(*key));
}

/* Takes the one line of a key out of what was read: space around it goes. */
static int keyin_accept(const struct ctl *ctl, const char *from, const char *text, size_t len, struct keyin *ret)
{
	while (len > 0 && strchr(" \t\r\n", text[len - 1]))
		len--;
	while (len > 0 && strchr(" \t\r\n", text[0])) {
		text++;
		len--;
	}
	if (len == 0)
		return ctl_say(ctl, CTL_USAGE, "%s holds no key: it is empty", from);
	if (memchr(text, '\n', len))
		return ctl_say(ctl, CTL_USAGE, "%s holds more than one line: a key file has the key and nothing else",
			       from);
	if (len > RPC_KEY_MAX)
		return ctl_say(ctl, CTL_USAGE,
			       "%s holds more than %d characters, which is no key: is it the right one?", from,
			       RPC_KEY_MAX);
	if (memchr(text, '\0', len))
		return ctl_say(ctl, CTL_USAGE, "%s holds a zero byte, which is no key: is it the right one?", from);
	memcpy(ret->text, text, len);
	ret->text[len] = '\0';
	ret->len = len;
	return CTL_DONE;
}

static int keyin_from_fd(const struct ctl *ctl, const char *from, int fd, struct keyin *ret)
{
	char text[4 * RPC_KEY_MAX] = "";
	size_t len = 0;
	int code;

	while (len < sizeof(text)) {
		ssize_t n = read(fd, text + len, sizeof(text) - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			code = ctl_say(ctl, CTL_USAGE, "the key cannot be read from %s: %s", from, strerror(errno));
			goto out;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	code = keyin_accept(ctl, from, text, len, ret);
out:
	explicit_bzero(text, sizeof(text));
	return code;
}

static int keyin_from_file(const struct ctl *ctl, const char *path, struct keyin *ret)
{
	int fd, code;

	if (strcmp(path, "-") == 0) {
		if (ctl->in_terminal)
			return ctl_say(
				ctl, CTL_USAGE,
				"standard input is a terminal, which would show the key: leave --key-file out to be asked");
		return keyin_from_fd(ctl, "standard input", STDIN_FILENO, ret);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return ctl_say(ctl, CTL_USAGE, "the key file %s cannot be opened: %s", path, strerror(errno));
	code = keyin_from_fd(ctl, path, fd, ret);
	close(fd);
	return code;
}

static volatile sig_atomic_t keyin_signal;

static void keyin_on_signal(int number)
{
	keyin_signal = number;
}

/*
 * Reads one line with read(2): stdio would keep a copy. Signals are blocked but while it waits, so that one that comes
 * just before is not lost.
 */
static int keyin_line(char *out, size_t size, const sigset_t *while_waiting)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	size_t len = 0;

	for (;;) {
		char c = '\0';
		ssize_t n = ppoll(&input, 1, NULL, while_waiting) < 0 ? -1 : read(STDIN_FILENO, &c, 1);

		if (n < 0)
			return -errno;
		if (n == 0 || c == '\n')
			break;
		if (len + 1 < size)
			out[len] = c;
		len++;
	}
	if (len >= size)
		return -EMSGSIZE;
	out[len] = '\0';
	return (int)len;
}

int keyin_prompt(const struct ctl *ctl, const char *question, char *out, size_t size)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	enum { COUNT = sizeof(numbers) / sizeof(numbers[0]) };
	struct sigaction action = {.sa_handler = keyin_on_signal}, before[COUNT];
	struct termios shown, hidden;
	sigset_t blocked, unblocked;
	int len;

	if (tcgetattr(STDIN_FILENO, &shown) != 0)
		return -errno;
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	hidden.c_lflag |= ECHONL;
	keyin_signal = 0;
	sigemptyset(&blocked);
	for (size_t i = 0; i < COUNT; i++)
		sigaddset(&blocked, numbers[i]);
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	for (size_t i = 0; i < COUNT; i++)
		sigaction(numbers[i], &action, &before[i]);
	/* First hidden, then asked: what is typed at the sight of the prompt is neither shown nor flushed away. */
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
	fprintf(ctl->err, "%s: ", question);
	fflush(ctl->err);
	len = keyin_line(out, size, &unblocked);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
	for (size_t i = 0; i < COUNT; i++)
		sigaction(numbers[i], &before[i], NULL);
	if (keyin_signal) {
		fputc('\n', ctl->err);
		raise(keyin_signal);
		len = -EINTR;
	}
	sigprocmask(SIG_SETMASK, &unblocked, NULL);
	return len;
}

static int keyin_from_prompt(const struct ctl *ctl, struct keyin *ret)
{
	char text[RPC_KEY_MAX + 64] = "";
	int len = keyin_prompt(ctl, "Key (it is not shown)", text, sizeof(text));
	int code;

	if (len == -EMSGSIZE)
		code = ctl_say(ctl, CTL_USAGE, "that is longer than any key");
	else if (len < 0)
		code = ctl_say(ctl, CTL_USAGE, "no key was read: %s", strerror(-len));
	else
		code = keyin_accept(ctl, "what was typed", text, (size_t)len, ret);
	explicit_bzero(text, sizeof(text));
	return code;
}

int keyin_read(const struct ctl *ctl, const struct args *args, struct keyin *ret)
{
	const char *fd_text = args_text(args, "key-fd"), *file = args_text(args, "key-file");
	uint64_t fd;
	int code;

	memset(ret, 0, sizeof(*ret));
	if (fd_text && file)
		return ctl_say(ctl, CTL_USAGE, "give --key-fd or --key-file, not both");
	if (fd_text) {
		if (!text_number(fd_text, INT_MAX, &fd))
			return ctl_say(ctl, CTL_USAGE,
				       "--key-fd takes the number of an open descriptor, such as 3, not \"%s\"",
				       fd_text);
		return keyin_from_fd(ctl, "the descriptor of --key-fd", (int)fd, ret);
	}
	if (file)
		return keyin_from_file(ctl, file, ret);
	if (keyin_environment) {
		size_t len = strlen(keyin_environment);

		code = keyin_accept(ctl, "APIKEY_KEY", keyin_environment, len, ret);
		explicit_bzero(keyin_environment, len);
		keyin_environment = NULL;
		return code;
	}
	if (ctl->in_terminal && ctl->err_terminal)
		return keyin_from_prompt(ctl, ret);
	return ctl_say(
		ctl, CTL_USAGE,
		"there is no key: give --key-file FILE, --key-fd N or the environment's APIKEY_KEY (never an argument)");
}
