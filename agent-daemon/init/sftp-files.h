/* What the file server does with files, and how it tells of them. Errors are errno; 0 is none. */
#ifndef CAUSEWAY_SFTP_FILES_H
#define CAUSEWAY_SFTP_FILES_H

#include "sftp-wire.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

enum { SFTP_LONG_NAME = NAME_MAX + 128 };

struct sftp_attrs sftp_attrs_of(const struct stat *about);
/* A line as `ls -l` writes it, with numbers for users and groups, in UTC. */
void sftp_long_name(char out[SFTP_LONG_NAME], const char *name, const struct stat *about);

int sftp_open_flags(uint32_t flags);
/* Sets what `attrs` has, all of it also when some fails; of the open file `fd`, or with -1 of `path`. */
int sftp_set_attrs(int fd, const char *path, const struct sftp_attrs *attrs, bool follow);
/* Renames, but never onto something. */
int sftp_rename_new(const char *from, const char *to);
/* The absolute path without links; its last part need not exist. */
int sftp_real_path(const char *path, char out[PATH_MAX]);
/* As `sftp_real_path`, of a path that may begin with ~. */
int sftp_expand_path(const char *path, char out[PATH_MAX]);
uint8_t *sftp_put_statvfs(uint8_t *at, const struct statvfs *about);
enum sftp_status sftp_status_of(int error);

#endif
