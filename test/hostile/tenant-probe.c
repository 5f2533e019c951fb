/*
 * What code of a tenant may try with the kernel to get out of its container. One line for each attempt: its name, and
 * "denied" with the error or "DONE". `tenant-probe HOST:PORT...` tries to connect instead, and prints what it could.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* From linux/keyctl.h, which musl lacks. */
enum { KEYCTL_GET_KEYRING_ID = 0, KEY_SPEC_SESSION_KEYRING = -3, KEY_SPEC_USER_KEYRING = -4 };

static void said(const char *name, long result)
{
    if (result < 0)
        printf("%s denied %s\n", name, strerror(errno));
    else
        printf("%s DONE\n", name);
    fflush(stdout);
}

static void written(const char *name, const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    said(name, fd < 0 ? -1 : write(fd, text, strlen(text)));
    if (fd >= 0)
        close(fd);
}

static void opened(const char *name, const char *path, int flags)
{
    char byte;
    int fd = open(path, flags);
    said(name, fd < 0 ? -1 : read(fd, &byte, 1) == 1 ? 0 : (errno = errno ? errno : ENODATA, -1));
    if (fd >= 0)
        close(fd);
}

/* In a child, so that one that succeeds or is killed does not end the others. */
static void call(const char *name, long number, long a, long b, long c, long d, long e)
{
    pid_t child = fork();
    if (child == 0) {
        errno = 0;
        said(name, syscall(number, a, b, c, d, e));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s denied signal %d\n", name, WTERMSIG(status));
}

static void syscalls(void)
{
    static char byte, attr[128];
    struct iovec here = {&byte, 1}, there = {(void *)&byte, 1};
    struct timespec when = {1, 0};
    call("mount-tmpfs", SYS_mount, (long)"none", (long)"/tmp", (long)"tmpfs", 0, 0);
    call("mount-proc", SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
    call("mount-bind", SYS_mount, (long)"/", (long)"/tmp", (long)"", MS_BIND, 0);
    call("remount-root", SYS_mount, (long)"", (long)"/causeway/init", (long)"", MS_REMOUNT | MS_BIND, 0);
    call("umount", SYS_umount2, (long)"/proc/kcore", MNT_DETACH, 0, 0, 0);
    call("fsopen", 430, (long)"ext4", 0, 0, 0, 0);
    call("open-tree", 428, AT_FDCWD, (long)"/", 1, 0, 0);
    call("pivot-root", SYS_pivot_root, (long)"/tmp", (long)"/tmp", 0, 0, 0);
    call("chroot", SYS_chroot, (long)"/tmp", 0, 0, 0, 0);
    call("unshare-user", SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0);
    call("unshare-mount", SYS_unshare, CLONE_NEWNS, 0, 0, 0, 0);
    call("unshare-net", SYS_unshare, CLONE_NEWNET, 0, 0, 0, 0);
    call("clone-user", SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
    call("setns-mount", SYS_setns, open("/proc/1/ns/mnt", O_RDONLY), CLONE_NEWNS, 0, 0, 0);
    call("mknod-block", SYS_mknodat, AT_FDCWD, (long)"/tmp/disk", S_IFBLK | 0666, (long)makedev(8, 0), 0);
    call("mknod-char", SYS_mknodat, AT_FDCWD, (long)"/tmp/mem", S_IFCHR | 0666, (long)makedev(1, 1), 0);
    call("ptrace-init", SYS_ptrace, PTRACE_ATTACH, 1, 0, 0, 0);
    call("read-init", SYS_process_vm_readv, 1, (long)&here, 1, (long)&there, 1);
    call("add-key", SYS_add_key, (long)"user", (long)"k", (long)"v", 1, KEY_SPEC_SESSION_KEYRING);
    call("keyctl", SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1, 0, 0);
    call("bpf", SYS_bpf, 0, (long)attr, sizeof attr, 0, 0);
    call("perf", SYS_perf_event_open, (long)attr, 0, -1, -1, 0);
    call("io-uring", 425, 8, (long)attr, 0, 0, 0);
    call("userfaultfd", SYS_userfaultfd, 0, 0, 0, 0, 0);
    call("open-by-handle", SYS_open_by_handle_at, AT_FDCWD, (long)attr, O_RDONLY, 0, 0);
    call("init-module", SYS_init_module, (long)attr, sizeof attr, (long)"", 0, 0);
    call("kexec", SYS_kexec_load, 0, 0, 0, 0, 0);
    call("reboot", SYS_reboot, (long)0xfee1dead, 672274793, 0, 0, 0);
    call("set-clock", SYS_clock_settime, 0, (long)&when, 0, 0, 0);
    call("set-hostname", SYS_sethostname, (long)"x", 1, 0, 0, 0);
    call("swapon", SYS_swapon, (long)"/tmp", 0, 0, 0, 0);
    call("acct", SYS_acct, (long)"/tmp/acct", 0, 0, 0, 0);
    call("quotactl", SYS_quotactl, 0, 0, 0, 0, 0);
    call("syslog", SYS_syslog, 5, 0, 0, 0, 0);
    call("setuid-root", SYS_setuid, 0, 0, 0, 0, 0);
    call("setgid-root", SYS_setgid, 0, 0, 0, 0, 0);
    call("setgroups", SYS_setgroups, 0, 0, 0, 0, 0);
    call("add-capability", SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0);
    call("drop-no-new-privs", SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
    call("raw-socket", SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP, 0, 0);
    call("packet-socket", SYS_socket, AF_PACKET, SOCK_RAW, 0x300, 0, 0);
    call("nice-above", SYS_setpriority, 0, 0, -5, 0, 0);
}

static void files(void)
{
    opened("init-memory", "/proc/1/mem", O_RDWR);
    opened("init-environ", "/proc/1/environ", O_RDONLY);
    opened("init-root", "/proc/1/root/etc/passwd", O_RDONLY);
    opened("init-descriptor", "/proc/1/fd/3", O_RDWR);
    opened("kcore", "/proc/kcore", O_RDONLY);
    opened("kallsyms-timer", "/proc/timer_list", O_RDONLY);
    opened("dev-mem", "/dev/mem", O_RDONLY);
    opened("dev-kmsg", "/dev/kmsg", O_RDONLY);
    opened("dev-disk", "/dev/sda", O_RDONLY);
    opened("dev-fuse", "/dev/fuse", O_RDWR);
    opened("docker-socket", "/var/run/docker.sock", O_RDWR);
    written("sysrq", "/proc/sysrq-trigger", "s");
    written("core-pattern", "/proc/sys/kernel/core_pattern", "|/tmp/x");
    written("modprobe", "/proc/sys/kernel/modprobe", "/tmp/x");
    written("oom-of-init", "/proc/1/oom_score_adj", "1000");
    written("release-agent", "/sys/fs/cgroup/memory/release_agent", "/tmp/x");
    written("cgroup-memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1");
    written("cgroup-memory-2", "/sys/fs/cgroup/memory.max", "max");
    written("cgroup-devices", "/sys/fs/cgroup/devices/devices.allow", "a");
    written("uevent-helper", "/sys/kernel/uevent_helper", "/tmp/x");
    written("the-init", "/causeway/init", "x");
    said("run-directory", open("/causeway/run/x", O_CREAT | O_WRONLY, 0600));
    said("list-run-directory", open("/causeway/run", O_RDONLY | O_DIRECTORY));
    said("rename-init", rename("/causeway/init", "/causeway/was"));
    said("hard-link-init", link("/causeway/init", "/home/work/init"));
}

/* One that can not be reached answers, or does not, within two seconds. */
static void reach(const char *where)
{
    char host[64] = {0};
    int port = 0;
    sscanf(where, "%63[^:]:%d", host, &port);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = 0;
    connect(fd, (struct sockaddr *)&to, sizeof to);
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int count = poll(&ready, 1, 2000);
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = count == 0 ? ETIMEDOUT : error;
    said(where, errno == 0 ? 0 : -1);
    close(fd);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        reach(argv[i]);
    if (argc > 1)
        return 0;
    syscalls();
    files();
    /* Taken, and without effect: a process that is killed with its init does not get to the next line. */
    kill(1, SIGKILL);
    usleep(200 * 1000);
    puts("kill-init denied by being ignored");
    return 0;
}
