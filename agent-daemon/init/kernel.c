/*
 * `init kernel [--interrupt message] [--take NAME] -- ARGV...`: starts a kernel of Jupyter and is its client. What the kernel
 * says on any channel comes as records on standard output, what comes as records on standard input is said to it. It takes
 * what the kernel publishes whether anybody reads or not. SIGINT interrupts the kernel, SIGTERM shuts it down; it ends as the
 * kernel did. `--take`: it takes the kernel that `init kernel --park NAME -- ARGV...` has started in advance, if there is one;
 * `--language`: of that one.
 */
#define _GNU_SOURCE
#include "backlog.h"
#include "bridge.h"
#include "kernel-process.h"
#include "parked.h"
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 1 << 20,
    MOST_QUEUED = 8 << 20, /* for the kernel: beyond, nothing is read for it */
    FIRST_NUDGE_MS = 5,    /* between two questions whether the kernel is there, at first and at last */
    LAST_NUDGE_MS = 100,
    TAKE_MS = 5000,        /* for a kernel that was started in advance to become this session's */
    PARK_MS = 60000,       /* for one that is started in advance */
    DEAF_MS = 5000,        /* a kernel that answers and publishes nothing is taken as it is */
    SHUTDOWN_MS = 5000,    /* from the request to the kill */
    DRAIN_MS = 2000,       /* for what a dead kernel had sent, where a child of it keeps its sockets */
    MAX_HEADER = 512,
};

static struct bridge_identity identity;
static int kernel_status;
/* What it has to be told before anything else, and to do without an error; NULL: nothing. */
static const char *first_request;
static bool is_taking, has_asked_first, has_refused;
static bool has_ended, is_ready, has_answered, has_published, interrupts_by_message, is_stopping;
static uint64_t nudge_at, nudge_ms = FIRST_NUDGE_MS, deaf_at = UINT64_MAX, kill_at = UINT64_MAX, drained_at = UINT64_MAX,
                give_up_at = UINT64_MAX;
static uint32_t messages;
/* The record that comes on standard input: its u32, then all of it. */
static uint8_t input_head[4], *input;
static size_t input_held, input_size;
static bool input_is_open = true, input_is_skipped;

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- what the bridge itself says to the kernel ---- */

static bool ask(enum jupyter_channel channel, const char *type, const char *content)
{
    char header[MAX_HEADER], date[32];
    time_t now = time(NULL);
    struct tm utc;
    struct jupyter_message m = {.count = 4};
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S.000000Z", &utc);
    int size = snprintf(header, sizeof header,
                        "{\"msg_id\":\"%s-%" PRIu32 "\",\"session\":\"%s\",\"username\":\"causeway\",\"date\":\"%s\","
                        "\"msg_type\":\"%s\",\"version\":\"5.3\"}",
                        identity.name, ++messages, identity.name, date, type);
    m.parts[PART_HEADER] = (struct span){header, (size_t)size};
    m.parts[PART_PARENT] = m.parts[PART_METADATA] = (struct span){"{}", 2};
    m.parts[PART_CONTENT] = (struct span){content, strlen(content)};
    return sockets_send(channel, &m);
}

/* Until an answer came and with it what was published: then the subscription holds. */
static void nudge(void)
{
    if (is_ready || has_ended || now_ms() < nudge_at || !sockets_are_open())
        return;
    if (first_request && !has_asked_first)
        has_asked_first = ask(JUPYTER_SHELL, "execute_request", first_request);
    else if (!has_answered || now_ms() < deaf_at)
        ask(JUPYTER_SHELL, "kernel_info_request", "{}");
    else
        has_published = true;
    nudge_at = now_ms() + nudge_ms;
    nudge_ms = nudge_ms * 2 > LAST_NUDGE_MS ? LAST_NUDGE_MS : nudge_ms * 2;
}

static void check_ready(void)
{
    if (is_ready || !has_answered || !has_published)
        return;
    is_ready = true;
    nudge_at = give_up_at = UINT64_MAX;
    log_note(is_taking ? "{\"kind\":\"ready\",\"inAdvance\":true}" : "{\"kind\":\"ready\"}");
}

/* An answer to what the bridge itself asked. */
static void take_answer(const char *type, const struct jupyter_message *m)
{
    struct span content = m->parts[PART_CONTENT];
    if (first_request && strcmp(type, "execute_reply") != 0)
        return;
    has_refused = first_request && !span_has(content, "\"status\": \"ok\"") && !span_has(content, "\"status\":\"ok\"");
    if (has_answered || has_refused)
        return;
    has_answered = true;
    deaf_at = now_ms() + DEAF_MS;
}

/* ---- what the kernel says ---- */

void bridge_heard(enum jupyter_channel channel, const struct jupyter_message *m)
{
    char type[JUPYTER_MAX_TYPE + 1];
    jupyter_type(m->parts[PART_HEADER], type);
    if (span_has(m->parts[PART_PARENT], identity.name)) {
        has_published = has_published || channel == JUPYTER_IOPUB;
        if (channel == JUPYTER_SHELL)
            take_answer(type, m);
        check_ready();
        return;
    }
    bool is_bulk = channel == JUPYTER_IOPUB && strcmp(type, "status") != 0 && strcmp(type, "error") != 0;
    log_message(jupyter_channel_names[channel], m, !is_bulk);
}

void bridge_heard_forged(void) { log_forged(); }
void bridge_lost(uint64_t count, uint64_t bytes) { log_lost(count, bytes); }

void bridge_heard_too_large(enum jupyter_channel channel, const struct zmtp_message *m)
{
    char note[MAX_HEADER], type[JUPYTER_MAX_TYPE + 1];
    jupyter_type_of_frames(m, type);
    snprintf(note, sizeof note, "{\"kind\":\"too-large\",\"channel\":\"%s\",\"type\":\"%s\",\"bytes\":%" PRIu64 "}",
             jupyter_channel_names[channel], type, m->total >> 53 ? (uint64_t)1 << 53 : m->total);
    log_note(note);
}

/* ---- what clients say ---- */

static void take_record(void)
{
    static struct jupyter_message m;
    enum jupyter_channel channel;
    if (!input_is_skipped && jupyter_parse_record(input, input_size, &channel, &m) && sockets_send(channel, &m))
        return;
    char note[MAX_HEADER];
    snprintf(note, sizeof note, "{\"kind\":\"refused\",\"bytes\":%zu}", input_size);
    log_note(note);
}

static void begin_record(void)
{
    input_size = (size_t)input_head[0] << 24 | (size_t)input_head[1] << 16 | (size_t)input_head[2] << 8 | input_head[3];
    input = input_size <= JUPYTER_MAX_MESSAGE ? malloc(input_size + 1) : NULL;
    input_is_skipped = !input;
}

static size_t take_input(const uint8_t *bytes, size_t size)
{
    size_t part;
    if (input_held < sizeof input_head) {
        part = sizeof input_head - input_held < size ? sizeof input_head - input_held : size;
        memcpy(input_head + input_held, bytes, part);
        input_held += part;
        if (input_held < sizeof input_head)
            return part;
        begin_record();
    } else {
        size_t at = input_held - sizeof input_head;
        part = input_size - at < size ? input_size - at : size;
        if (!input_is_skipped)
            memcpy(input + at, bytes, part);
        input_held += part;
    }
    if (input_held == sizeof input_head + input_size) {
        take_record();
        free(input);
        input = NULL;
        input_held = 0;
    }
    return part;
}

static void read_input(void)
{
    static uint8_t bytes[64 << 10];
    while (sockets_queued() < MOST_QUEUED) {
        ssize_t size = read(STDIN_FILENO, bytes, sizeof bytes);
        if (size < 0)
            return;
        if (size == 0) {
            input_is_open = false;
            return;
        }
        for (size_t at = 0; at < (size_t)size;)
            at += take_input(bytes + at, (size_t)size - at);
        if ((size_t)size < sizeof bytes)
            return;
    }
}

/* ---- life and death ---- */

static void interrupt(void)
{
    if (!interrupts_by_message)
        kernel_process_signal(SIGINT);
    else
        ask(JUPYTER_CONTROL, "interrupt_request", "{}");
}

/* Politely at first; a second time, or when its time is up, at once. */
static void stop(void)
{
    if (is_stopping || !sockets_are_open()) {
        kill_at = is_stopping ? now_ms() : now_ms() + SHUTDOWN_MS;
        kernel_process_signal(SIGTERM);
    } else {
        kill_at = now_ms() + SHUTDOWN_MS;
        ask(JUPYTER_CONTROL, "shutdown_request", "{\"restart\":false}");
    }
    is_stopping = true;
}

static void reap(void)
{
    if (has_ended || !kernel_process_has_ended(&kernel_status))
        return;
    has_ended = true;
    drained_at = now_ms() + DRAIN_MS;
    sockets_kernel_ended();
}

static void take_signals(int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap();
        else if (has_ended)
            continue;
        else if (info.ssi_signo == SIGINT)
            interrupt();
        else
            stop();
    }
}

static void tick(void)
{
    sockets_tick();
    nudge();
    check_ready();
    log_tick();
    if (now_ms() >= kill_at && !has_ended) {
        kernel_process_signal(SIGKILL);
        kill_at = UINT64_MAX;
    }
}

static int wait_ms(uint64_t deadline)
{
    uint64_t now = now_ms(), times[] = {nudge_at, kill_at, drained_at, give_up_at};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (i == 0 && (has_ended || !sockets_are_open()))
            continue;
        if (times[i] < deadline)
            deadline = times[i];
    }
    return deadline <= now ? 0 : deadline - now < INT_MAX ? (int)(deadline - now) : deadline == UINT64_MAX ? -1 : INT_MAX;
}

enum { WATCH_SIGNALS, WATCH_KERNEL, WATCH_OUTPUT, WATCH_INPUT, WATCH_SOCKETS, MOST_WATCHED = WATCH_SOCKETS + JUPYTER_CHANNELS };

/* Waits for something, and does what there is to do then. False when nobody reads any more. */
static bool turn(int signals)
{
    uint64_t deadline = UINT64_MAX;
    struct pollfd fds[MOST_WATCHED];
    tick();
    if (!backlog_write(STDOUT_FILENO))
        return false;
    bool reads = is_ready && input_is_open && !has_ended && sockets_queued() < MOST_QUEUED;
    fds[WATCH_SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
    fds[WATCH_KERNEL] = (struct pollfd){.fd = has_ended ? -1 : kernel_process_watched(), .events = POLLIN};
    fds[WATCH_OUTPUT] = (struct pollfd){.fd = backlog_is_empty() ? -1 : STDOUT_FILENO, .events = POLLOUT};
    fds[WATCH_INPUT] = (struct pollfd){.fd = reads ? STDIN_FILENO : -1, .events = POLLIN};
    size_t sockets = sockets_watch(fds + WATCH_SOCKETS, &deadline);
    if (poll(fds, WATCH_SOCKETS + sockets, wait_ms(deadline)) <= 0)
        return true;
    for (size_t i = 0; i < sockets; i++)
        sockets_event(&fds[WATCH_SOCKETS + i]);
    if (fds[WATCH_INPUT].revents)
        read_input();
    if (fds[WATCH_INPUT].revents && !input_is_open)
        stop(); /* nobody is there any more */
    if (fds[WATCH_KERNEL].revents)
        reap();
    if (fds[WATCH_SIGNALS].revents)
        take_signals(signals);
    return true;
}

static void run(int signals)
{
    while ((!has_ended || (!sockets_are_over() && now_ms() < drained_at)) && turn(signals))
        ;
}

/* True once the kernel answers; false when nothing becomes of that in `ms`. */
static bool boot(int signals, uint64_t ms)
{
    give_up_at = now_ms() + ms;
    while (!is_ready && !has_ended && !has_refused && now_ms() < give_up_at && turn(signals))
        ;
    return is_ready;
}

/* Everything that is known, then how it ended; the reader takes as long as it likes. */
static void say_end(void)
{
    char note[MAX_HEADER];
    sockets_close();
    if (WIFSIGNALED(kernel_status))
        snprintf(note, sizeof note, "{\"kind\":\"ended\",\"signal\":%d}", WTERMSIG(kernel_status));
    else
        snprintf(note, sizeof note, "{\"kind\":\"ended\",\"exitCode\":%d}", WEXITSTATUS(kernel_status));
    log_note(note);
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    while (backlog_write(STDOUT_FILENO) && !backlog_is_empty())
        poll(&out, 1, -1);
}

static int make_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int can_not_start(void)
{
    fprintf(stderr, "causeway-init kernel: can not start: %s\n", strerror(errno));
    kernel_process_tidy();
    return 1;
}

static int serve(int signals)
{
    run(signals);
    say_end();
    kernel_process_tidy();
    return kernel_process_end_as(kernel_status);
}

static int start(char **argv, int signals)
{
    if (!kernel_process_identify(&identity) || !kernel_process_start(argv))
        return can_not_start();
    sockets_start(&identity);
    return serve(signals);
}

/*
 * What a kernel that is started in advance is told, in its own language and as JSON has text: nothing (that it is done shows
 * that it is there); and to have the environment of process %d where that differs from the one of process %d, with which it
 * was started, but where it has changed its own since. Nothing is left of that in the kernel.
 */
static const struct language {
    const char *name, *nothing, *environment;
} languages[] = {
    {"python", "pass",
     "exec('''import os, time\\n"
     "def read(pid):\\n"
     "    with open(f'/proc/{pid}/environ', 'rb') as file:\\n"
     "        return dict(pair.split(b'=', 1) for pair in file.read().split(bytes(1)) if b'=' in pair)\\n"
     "new, old = read(%d), read(%d)\\n"
     "for name in {*old, *new}:\\n"
     "    if new.get(name) != old.get(name) == os.environb.get(name):\\n"
     "        if name in new:\\n"
     "            os.environb[name] = new[name]\\n"
     "        else:\\n"
     "            os.environb.pop(name)\\n"
     "time.tzset()\\n''', {})"},
    {"r", "invisible(NULL)",
     "local({\\n"
     "  read <- function(pid) {\\n"
     "    bytes <- readBin(paste0('/proc/', pid, '/environ'), 'raw', 4194304)\\n"
     "    found <- list()\\n"
     "    for (pair in split(bytes, cumsum(c(FALSE, bytes == 0))[seq_along(bytes)])) {\\n"
     "      pair <- pair[pair != 0]\\n"
     "      at <- match(TRUE, pair == 61, 0)\\n"
     "      if (at > 1) found[[rawToChar(pair[seq_len(at - 1)])]] <- rawToChar(pair[-seq_len(at)])\\n"
     "    }\\n"
     "    found\\n"
     "  }\\n"
     "  new <- read(%d)\\n"
     "  old <- read(%d)\\n"
     "  for (name in union(names(old), names(new))) {\\n"
     "    now <- Sys.getenv(name, NA)\\n"
     "    if (is.na(now)) now <- NULL\\n"
     "    if (identical(new[[name]], old[[name]]) || !identical(now, old[[name]])) next\\n"
     "    if (is.null(new[[name]])) Sys.unsetenv(name) else do.call(Sys.setenv, new[name])\\n"
     "  }\\n"
     "})"},
};

/* The request that has a kernel do that, without a trace in its history. */
static const char *silent_request(const char *format, pid_t to, pid_t from)
{
    static char content[2048], code[1536];
    snprintf(code, sizeof code, format, (int)to, (int)from);
    snprintf(content, sizeof content,
             "{\"code\":\"%s\",\"silent\":true,\"store_history\":false,\"user_expressions\":{},\"allow_stdin\":false,"
             "\"stop_on_error\":false}",
             code);
    return content;
}

/* As any kernel. Where there is none to be taken, or it does not do as it is told, `again` starts one. */
static int take(const char *name, const struct language *language, char **again, int signals)
{
    pid_t holder = kernel_process_take(name, &identity);
    is_taking = true;
    if (holder > 0) {
        first_request = silent_request(language->environment, getpid(), holder);
        sockets_start(&identity);
        if (boot(signals, TAKE_MS) || is_stopping)
            return serve(signals);
    }
    kernel_process_let_go();
    execv("/proc/self/exe", again);
    return can_not_start();
}

/* Starts one in advance, for whoever comes for it by this name, and is done. */
static int park(const char *name, const struct language *language, char **argv)
{
    int status = parked_begin();
    if (status >= 0)
        return status;
    int signals = make_signals();
    first_request = silent_request(language->nothing, 0, 0);
    bool is_there = signals >= 0 && kernel_process_identify(&identity) && kernel_process_start(argv);
    if (is_there) {
        sockets_start(&identity);
        is_there = boot(signals, PARK_MS) && !is_stopping;
        sockets_close();
    } else {
        can_not_start();
    }
    if (is_there)
        parked_hold(name, &identity, signals);
    else
        parked_give_up();
    kernel_process_tidy();
    return 0;
}

static void widen(int fd)
{
    fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static const struct language *find_language(const char *name)
{
    for (size_t i = 0; i < sizeof languages / sizeof languages[0]; i++)
        if (strcmp(languages[i].name, name) == 0)
            return &languages[i];
    return NULL;
}

int kernel_main(int argc, char **argv)
{
    const struct language *language = &languages[0];
    const char *to_take = NULL, *to_park = NULL;
    int at = 1, taken_at = 0;
    for (; at + 1 < argc && strcmp(argv[at], "--") != 0; at += 2) {
        if (strcmp(argv[at], "--interrupt") == 0)
            interrupts_by_message = strcmp(argv[at + 1], "message") == 0;
        else if (strcmp(argv[at], "--park") == 0)
            to_park = argv[at + 1];
        else if (strcmp(argv[at], "--take") == 0)
            to_take = argv[(taken_at = at) + 1];
        else if (strcmp(argv[at], "--language") == 0)
            language = find_language(argv[at + 1]);
        else
            break;
    }
    if (!language || at + 1 >= argc || strcmp(argv[at], "--") != 0) {
        fputs("usage: causeway-init kernel [--interrupt message|signal] [--take NAME | --park NAME] [--language python|r] "
              "-- ARGV...\n",
              stderr);
        return 2;
    }
    if (to_park)
        return park(to_park, language, argv + at + 1);
    widen(STDIN_FILENO);
    widen(STDOUT_FILENO);
    int signals = make_signals();
    if (signals < 0)
        return can_not_start();
    if (!to_take)
        return start(argv + at + 1, signals);
    /* The same without the option: it can be said twice how a kernel is interrupted. */
    argv[taken_at] = "--interrupt";
    argv[taken_at + 1] = interrupts_by_message ? "message" : "signal";
    return take(to_take, language, argv - 1, signals);
}
