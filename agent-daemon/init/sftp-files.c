#define _GNU_SOURCE
#include "sftp-files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RECENT_SECONDS = 182 * 24 * 3600, ALL_MODES = 07777 };

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

static uint32_t clamp_time(time_t seconds)
{
    return seconds < 0 ? 0 : seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
}

struct sftp_attrs sftp_attrs_of(const struct stat *about)
{
    return (struct sftp_attrs){
        .flags = SFTP_SIZE | SFTP_OWNER | SFTP_MODE | SFTP_TIMES,
        .size = (uint64_t)about->st_size,
        .uid = about->st_uid,
        .gid = about->st_gid,
        .mode = about->st_mode,
        .atime = clamp_time(about->st_atime),
        .mtime = clamp_time(about->st_mtime),
    };
}

static char type_letter(mode_t mode)
{
    return S_ISDIR(mode)    ? 'd'
           : S_ISLNK(mode)  ? 'l'
           : S_ISCHR(mode)  ? 'c'
           : S_ISBLK(mode)  ? 'b'
           : S_ISFIFO(mode) ? 'p'
           : S_ISSOCK(mode) ? 's'
                            : '-';
}

static void put_mode(char out[11], mode_t mode)
{
    static const char all[] = "rwxrwxrwx";
    out[0] = type_letter(mode);
    for (int i = 0; i < 9; i++)
        out[1 + i] = mode & (1u << (8 - i)) ? all[i] : '-';
    if (mode & S_ISUID)
        out[3] = mode & S_IXUSR ? 's' : 'S';
    if (mode & S_ISGID)
        out[6] = mode & S_IXGRP ? 's' : 'S';
    if (mode & S_ISVTX)
        out[9] = mode & S_IXOTH ? 't' : 'T';
    out[10] = 0;
}

void sftp_long_name(char out[SFTP_LONG_NAME], const char *name, const struct stat *about)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char mode[11], when[24];
    time_t now = time(NULL), then = about->st_mtime;
    struct tm t = {0};
    put_mode(mode, about->st_mode);
    gmtime_r(&then, &t);
    if (then <= now && now - then < RECENT_SECONDS)
        snprintf(when, sizeof when, "%02d:%02d", t.tm_hour, t.tm_min);
    else
        snprintf(when, sizeof when, "%5ld", t.tm_year + 1900L);
    snprintf(out, SFTP_LONG_NAME, "%s %3lu %-8u %-8u %8llu %.3s %2d %5s %s", mode, (unsigned long)about->st_nlink,
             about->st_uid, about->st_gid, (unsigned long long)about->st_size, months + 3 * t.tm_mon, t.tm_mday, when, name);
}

int sftp_open_flags(uint32_t flags)
{
    int both = flags & (SFTP_OPEN_READ | SFTP_OPEN_WRITE);
    return (both == SFTP_OPEN_WRITE ? O_WRONLY : both == SFTP_OPEN_READ || !both ? O_RDONLY : O_RDWR) |
           (flags & SFTP_OPEN_APPEND ? O_APPEND : 0) | (flags & SFTP_OPEN_CREATE ? O_CREAT : 0) |
           (flags & SFTP_OPEN_TRUNCATE ? O_TRUNC : 0) | (flags & SFTP_OPEN_EXCLUSIVE ? O_EXCL : 0) | O_NOCTTY | O_CLOEXEC;
}

static void note(int *first, int result)
{
    if (result < 0 && *first == 0)
        *first = errno;
}

int sftp_set_attrs(int fd, const char *path, const struct sftp_attrs *attrs, bool follow)
{
    int error = 0, links = follow ? 0 : AT_SYMLINK_NOFOLLOW;
    mode_t mode = attrs->mode & ALL_MODES;
    struct timespec times[2] = {{.tv_sec = attrs->atime}, {.tv_sec = attrs->mtime}};
    if (attrs->flags & SFTP_SIZE && attrs->size > INT64_MAX)
        return EFBIG;
    if (attrs->flags & SFTP_SIZE)
        note(&error, fd >= 0 ? ftruncate(fd, (off_t)attrs->size) : truncate(path, (off_t)attrs->size));
    if (attrs->flags & SFTP_OWNER)
        note(&error, fd >= 0 ? fchown(fd, attrs->uid, attrs->gid)
                             : fchownat(AT_FDCWD, path, attrs->uid, attrs->gid, links));
    if (attrs->flags & SFTP_MODE)
        note(&error, fd >= 0 ? fchmod(fd, mode) : fchmodat(AT_FDCWD, path, mode, links));
    if (attrs->flags & SFTP_TIMES)
        note(&error, fd >= 0 ? futimens(fd, times) : utimensat(AT_FDCWD, path, times, links));
    return error;
}

int sftp_rename_new(const char *from, const char *to)
{
    struct stat about;
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != ENOSYS && errno != EINVAL)
        return errno;
    if (lstat(to, &about) == 0)
        return EEXIST;
    return rename(from, to) < 0 ? errno : 0;
}

int sftp_real_path(const char *path, char out[PATH_MAX])
{
    char parent[PATH_MAX];
    if (realpath(*path ? path : ".", out))
        return 0;
    if (errno != ENOENT)
        return errno;
    size_t size = strlen(path);
    memcpy(parent, path, size + 1);
    while (size > 1 && parent[size - 1] == '/')
        parent[--size] = 0;
    char *slash = strrchr(parent, '/');
    const char *name = slash ? slash + 1 : parent;
    if (!*name || strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
        return ENOENT;
    /* A link that leads nowhere is there: what it leads to is not. */
    if (slash)
        *slash = 0;
    if (!realpath(!slash ? "." : *parent ? parent : "/", out))
        return errno;
    size_t before = strlen(out), behind = strlen(name);
    bool is_root = before == 1;
    if (before + behind + 2 > PATH_MAX)
        return ENAMETOOLONG;
    if (!is_root)
        out[before++] = '/';
    memcpy(out + before, name, behind + 1);
    return 0;
}

int sftp_expand_path(const char *path, char out[PATH_MAX])
{
    char expanded[PATH_MAX];
    const char *home = getenv("HOME");
    if (*path != '~')
        return sftp_real_path(path, out);
    if (path[1] && path[1] != '/')
        return ENOENT; /* of another user: there may be no list of users */
    if (snprintf(expanded, sizeof expanded, "%s%s", home && *home ? home : ".", path + 1) >= (int)sizeof expanded)
        return ENAMETOOLONG;
    return sftp_real_path(expanded, out);
}

uint8_t *sftp_put_statvfs(uint8_t *at, const struct statvfs *about)
{
    const uint64_t numbers[] = {
        about->f_bsize, about->f_frsize, about->f_blocks, about->f_bfree, about->f_bavail, about->f_files,
        about->f_ffree, about->f_favail, about->f_fsid,   about->f_flag & (ST_RDONLY | ST_NOSUID), about->f_namemax,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        at = sftp_put_u64(at, numbers[i]);
    return at;
}

enum sftp_status sftp_status_of(int error)
{
    switch (error) {
    case 0:
        return SFTP_OK;
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
        return SFTP_NO_SUCH_FILE;
    case EACCES:
    case EPERM:
    case EROFS:
        return SFTP_PERMISSION_DENIED;
    case ENOSYS:
    case EOPNOTSUPP:
        return SFTP_UNSUPPORTED;
    default:
        return SFTP_FAILURE;
    }
}
