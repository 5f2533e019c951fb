#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OOM_EXTRA = 500, OOM_MAX = 1000, NOT_FOUND = 127, NOT_EXECUTABLE = 126 };

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
static struct rlimit inherited_files;
static int oom_fd = -1;
static int oom_score;
static int own_priority;

void spawn_prepare(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &inherited_files) == 0) {
        files = inherited_files;
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    char text[16] = "";
    oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (oom_fd >= 0 && read(oom_fd, text, sizeof text - 1) > 0)
        oom_score = atoi(text);
    own_priority = getpriority(PRIO_PROCESS, 0);
}

/*
 * A child inherits the score at fork. It could not raise it by itself: files of a non-dumpable process below /proc
 * belong to root. Going back down needs no privilege, because the lower bound is the one that this process was given.
 */
static void set_oom_score(int score)
{
    if (oom_fd >= 0)
        dprintf(oom_fd, "%d", score > OOM_MAX ? OOM_MAX : score);
}

/* All descriptors of one birth. A child's ends are closed in the parent and the other way round. */
struct ends {
    int child[3], parent_input, parent_outputs[2], status[2];
};

static void close_all(struct ends *e)
{
    int all[] = {e->child[0],          e->child[1],          e->child[2],  e->parent_input,
                 e->parent_outputs[0], e->parent_outputs[1], e->status[0], e->status[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] >= 0)
            close(all[i]);
}

static int open_terminal(const struct spawn_command *c, struct ends *e)
{
    int unlock = 0;
    struct winsize size = {.ws_row = c->rows, .ws_col = c->cols};
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0)
        return -1;
    e->parent_outputs[0] = master;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return -1;
    e->child[0] = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (e->child[0] < 0)
        return -1;
    ioctl(master, TIOCSWINSZ, &size);
    e->child[1] = fcntl(e->child[0], F_DUPFD_CLOEXEC, 3);
    e->child[2] = fcntl(e->child[0], F_DUPFD_CLOEXEC, 3);
    e->parent_input = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return e->child[1] < 0 || e->child[2] < 0 || e->parent_input < 0 ? -1 : 0;
}

static int open_pipes(const struct spawn_command *c, struct ends *e)
{
    int pair[2];
    for (int i = 0; i < 2; i++) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        e->parent_outputs[i] = pair[0];
        e->child[i + 1] = pair[1];
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
    }
    if (c->flags & SPAWN_STDIN) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        e->child[0] = pair[0];
        e->parent_input = pair[1];
        fcntl(pair[1], F_SETFL, O_NONBLOCK);
        return 0;
    }
    e->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return e->child[0] < 0 ? -1 : 0;
}

/* Another user must be able to open /dev/stdout and /dev/stderr again; without capabilities only the mode can be changed. */
static void give_to_user(const struct spawn_command *c, const struct ends *e)
{
    for (int i = 0; i < 3; i++) {
        struct stat about;
        if (fstat(e->child[i], &about) < 0 || (i == 0 && !(c->flags & (SPAWN_TTY | SPAWN_STDIN))))
            continue;
        if (fchown(e->child[i], c->uid, c->flags & SPAWN_TTY ? about.st_gid : c->gid) < 0)
            fchmod(e->child[i], 0666);
    }
}

static void fail(int status, const char *step, int error)
{
    struct exec_failure failure = {.error = error};
    strncpy(failure.step, step, sizeof failure.step - 1);
    if (write(status, &failure, sizeof failure) < 0)
        _exit(NOT_EXECUTABLE);
    _exit(error == ENOENT && strcmp(step, "exec") == 0 ? NOT_FOUND : NOT_EXECUTABLE);
}

static void become_user(const struct spawn_command *c, int status)
{
    gid_t groups[MAX_GROUPS];
    if (!(c->flags & SPAWN_USER))
        return;
    for (int i = 0; i < c->group_count; i++)
        groups[i] = c->groups[i];
    bool same = getuid() == c->uid && geteuid() == c->uid && getgid() == c->gid && getegid() == c->gid;
    if (setgroups(c->group_count, groups) < 0 && !(same && c->group_count == 0))
        fail(status, "setgroups", errno);
    if (setresgid(c->gid, c->gid, c->gid) < 0)
        fail(status, "setresgid", errno);
    if (setresuid(c->uid, c->uid, c->uid) < 0)
        fail(status, "setresuid", errno);
}

static void set_limits(const struct spawn_command *c, int status)
{
    setrlimit(RLIMIT_NOFILE, &inherited_files);
    for (int i = 0; i < c->rlimit_count; i++) {
        struct rlimit limit = {
            c->rlimits[i].soft == UINT64_MAX ? RLIM_INFINITY : (rlim_t)c->rlimits[i].soft,
            c->rlimits[i].hard == UINT64_MAX ? RLIM_INFINITY : (rlim_t)c->rlimits[i].hard,
        };
        if (setrlimit(c->rlimits[i].resource, &limit) < 0)
            fail(status, "setrlimit", errno);
    }
}

static void reset_signals(void)
{
    sigset_t none;
    for (int i = 1; i <= MAX_SIGNAL; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A script without "#!" is given to the shell, as execvp(3) does. */
static void exec_file(const char *file, char **argv, char **env, size_t argc)
{
    execve(file, argv, env);
    if (errno != ENOEXEC)
        return;
    char **shell = calloc(argc + 2, sizeof *shell);
    if (!shell)
        return;
    shell[0] = "/bin/sh";
    shell[1] = (char *)file;
    memcpy(shell + 2, argv + 1, argc * sizeof *argv);
    execve(shell[0], shell, env);
    errno = ENOEXEC;
}

static const char *find_path(char **env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return default_path;
}

/* Returns only when it failed, with errno: EACCES if something was found that may not be executed, else the last error. */
static void exec_search(char **argv, char **env, size_t argc)
{
    if (strchr(argv[0], '/')) {
        exec_file(argv[0], argv, env, argc);
        return;
    }
    bool denied = false;
    errno = ENOENT;
    for (const char *path = find_path(env); *argv[0];) {
        size_t size = strcspn(path, ":");
        char file[PATH_MAX];
        if (snprintf(file, sizeof file, "%.*s%s%s", (int)size, path, size ? "/" : "", argv[0]) < (int)sizeof file)
            exec_file(file, argv, env, argc);
        denied |= errno == EACCES;
        if (errno != EACCES && errno != ENOENT && errno != ENOTDIR)
            return;
        if (!path[size])
            break;
        path += size + 1;
    }
    errno = denied ? EACCES : ENOENT;
}

/* Before anything that may hang: a child that waits for a dead disk must not hold other processes' pipes open. */
static void close_others(int status)
{
    syscall(SYS_close_range, 3, status - 1, 0);
    syscall(SYS_close_range, status + 1, ~0u, 0);
}

static void run_child(const struct spawn_command *c, struct ends *e, char **argv, char **env, const char *cwd)
{
    int status = e->status[1];
    reset_signals();
    setsid();
    /* The agent raises that of the init alone. Going back down needs no privilege. */
    setpriority(PRIO_PROCESS, 0, own_priority);
    if (c->flags & SPAWN_TTY && ioctl(e->child[0], TIOCSCTTY, 0) < 0)
        fail(status, "terminal", errno);
    for (int i = 0; i < 3; i++)
        if (dup2(e->child[i], i) < 0)
            fail(status, "dup2", errno);
    close_others(status);
    set_limits(c, status);
    become_user(c, status);
    if (chdir(cwd) < 0)
        fail(status, "chdir", errno);
    exec_search(argv, env, c->argv.count);
    fail(status, "exec", errno);
}

static int open_ends(const struct spawn_command *c, struct ends *e)
{
    memset(e, -1, sizeof *e);
    if (pipe2(e->status, O_CLOEXEC) < 0)
        return -1;
    fcntl(e->status[0], F_SETFL, O_NONBLOCK);
    if ((c->flags & SPAWN_TTY ? open_terminal(c, e) : open_pipes(c, e)) < 0)
        return -1;
    if (c->flags & SPAWN_USER)
        give_to_user(c, e);
    return 0;
}

/* argv, env, cwd and their texts in one block of memory. */
static char **copy_arguments(const struct spawn_command *c, char ***env, char **cwd)
{
    size_t pointers = c->argv.count + c->env.count + 2;
    char **argv = malloc(pointers * sizeof(char *) + c->argv.bytes + c->env.bytes + c->cwd_bytes + 2);
    if (!argv)
        return NULL;
    char *text = (char *)(argv + pointers);
    *env = argv + c->argv.count + 1;
    copy_strings(&c->argv, text, argv);
    copy_strings(&c->env, text + c->argv.bytes, *env);
    *cwd = text + c->argv.bytes + c->env.bytes;
    memcpy(*cwd, c->cwd, c->cwd_bytes);
    memcpy(*cwd + c->cwd_bytes, c->cwd_bytes ? "" : "/", c->cwd_bytes ? 1 : 2);
    return argv;
}

int spawn(const struct spawn_command *c, struct spawned *out)
{
    struct ends ends;
    char **env, *cwd;
    char **argv = copy_arguments(c, &env, &cwd);
    if (!argv || open_ends(c, &ends) < 0) {
        int error = errno;
        if (argv)
            close_all(&ends);
        free(argv);
        errno = error;
        return -1;
    }
    set_oom_score(oom_score + OOM_EXTRA);
    pid_t pid = fork();
    if (pid == 0)
        run_child(c, &ends, argv, env, cwd);
    int error = errno;
    set_oom_score(oom_score);
    free(argv);
    if (pid > 0) {
        *out = (struct spawned){pid, ends.status[0], ends.parent_input, {ends.parent_outputs[0], ends.parent_outputs[1]}};
        ends.status[0] = ends.parent_input = ends.parent_outputs[0] = ends.parent_outputs[1] = -1;
    }
    close_all(&ends);
    errno = error;
    return pid > 0 ? 0 : -1;
}
