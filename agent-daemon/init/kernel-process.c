#define _GNU_SOURCE
#include "kernel-process.h"

#include "folder.h"
#include "parked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NOT_FOUND = 127,
    NOT_EXECUTABLE = 126,
    /* Below those that the system gives to outgoing connections, so that none takes one meanwhile. */
    FIRST_PORT = 12000,
    PORTS = 20000,
    PORT_TRIES = 1000,
};

static char folder[PATH_MAX], file[PATH_MAX + 16];
static pid_t child = -1;
/* To whoever started it in advance. */
static int parked = -1;

static bool random_hex(char *out, size_t bytes)
{
    uint8_t raw[32];
    if (getrandom(raw, bytes, 0) != (ssize_t)bytes)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        out[2 * i] = "0123456789abcdef"[raw[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
    }
    return true;
}

static bool random_name(char *out)
{
    memcpy(out, "causeway-", 9);
    return random_hex(out + 9, 16);
}

/* Ports of the loopback at which nobody listens, all different: each stays bound until all are found. */
static bool find_ports(uint16_t *out, size_t count)
{
    int fds[JUPYTER_CHANNELS + 1];
    size_t found = 0;
    for (int tries = 0; found < count && tries < PORT_TRIES; tries++) {
        uint16_t number;
        if (getrandom(&number, sizeof number, 0) != sizeof number)
            break;
        struct sockaddr_in at = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)(FIRST_PORT + number % PORTS)),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            break;
        if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
            close(fd);
            continue;
        }
        fds[found] = fd;
        out[found++] = ntohs(at.sin_port);
    }
    for (size_t i = 0; i < found; i++)
        close(fds[i]);
    return found == count;
}

static bool write_file(const struct bridge_identity *identity)
{
    const uint16_t *ports = identity->ports;
    if (!folder_make(folder, sizeof folder, "causeway-kernel-"))
        return false;
    snprintf(file, sizeof file, "%s/kernel.json", folder);
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    int size = dprintf(fd,
                       "{\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":%d,\"control_port\":%d,\"stdin_port\":%d,"
                       "\"iopub_port\":%d,\"hb_port\":%d,\"signature_scheme\":\"hmac-sha256\",\"key\":\"%.*s\"}\n",
                       ports[JUPYTER_SHELL], ports[JUPYTER_CONTROL], ports[JUPYTER_STDIN], ports[JUPYTER_IOPUB],
                       ports[JUPYTER_CHANNELS], JUPYTER_KEY_BYTES, (const char *)identity->key);
    close(fd);
    return size > 0;
}

bool kernel_process_identify(struct bridge_identity *out)
{
    if (random_hex((char *)out->key, JUPYTER_KEY_BYTES / 2) && random_name(out->name) &&
        find_ports(out->ports, JUPYTER_CHANNELS + 1) && write_file(out))
        return true;
    int error = errno;
    kernel_process_tidy();
    errno = error;
    return false;
}

/* `text` with each `{connection_file}` replaced. */
static char *with_file(const char *text)
{
    static const char mark[] = "{connection_file}";
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, mark)); at += sizeof mark - 1)
        count++;
    char *out = malloc(strlen(text) + count * strlen(file) + 1), *to = out;
    if (!out)
        return NULL;
    for (const char *next; (next = strstr(text, mark)); text = next + sizeof mark - 1) {
        to = mempcpy(to, text, (size_t)(next - text));
        to = mempcpy(to, file, strlen(file));
    }
    strcpy(to, text);
    return out;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become_kernel(char **argv, pid_t bridge)
{
    setpgid(0, 0);
    reset_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != bridge)
        _exit(NOT_EXECUTABLE);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(NOT_EXECUTABLE);
    execvp(argv[0], argv);
    /* Specs say `python` for whatever interpreter they were installed into. */
    if (errno == ENOENT && strcmp(argv[0], "python") == 0)
        execvp("python3", argv);
    dprintf(STDERR_FILENO, "causeway-init kernel: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
}

bool kernel_process_start(char **argv)
{
    pid_t bridge = getpid();
    for (char **each = argv; *each; each++)
        if (!(*each = with_file(*each)))
            return false;
    child = fork();
    if (child == 0)
        become_kernel(argv, bridge);
    if (child > 0)
        setpgid(child, child);
    return child > 0;
}

pid_t kernel_process_take(const char *name, struct bridge_identity *out)
{
    struct ucred holder = {0};
    socklen_t size = sizeof holder;
    parked = parked_take(name, STDERR_FILENO, out);
    /* A name of its own: the kernel takes nobody for whoever started it. */
    if (parked < 0 || !random_name(out->name) || getsockopt(parked, SOL_SOCKET, SO_PEERCRED, &holder, &size) < 0)
        return -1;
    return holder.pid;
}

int kernel_process_watched(void) { return parked; }

void kernel_process_signal(int signal)
{
    if (parked >= 0)
        parked_signal(parked, signal);
    else if (child > 0)
        kill(-child, signal);
}

bool kernel_process_has_ended(int *status)
{
    if (parked >= 0)
        return parked_has_ended(parked, status);
    for (pid_t pid; (pid = waitpid(-1, status, WNOHANG)) > 0;)
        if (pid == child) {
            child = -1;
            return true;
        }
    return false;
}

void kernel_process_let_go(void)
{
    if (parked >= 0)
        close(parked);
    parked = -1;
}

void kernel_process_tidy(void)
{
    if (file[0])
        unlink(file);
    if (folder[0])
        rmdir(folder);
}

int kernel_process_end_as(int status)
{
    struct rlimit none = {0};
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    setrlimit(RLIMIT_CORE, &none);
    reset_signals();
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}
