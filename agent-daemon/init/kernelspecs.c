/*
 * `init kernelspecs --`: the kernelspecs of this container, as a line of JSON each: {"name", "folder", "text"}, where `text`
 * is the kernel.json as it is. Where Jupyter looks, in its order; of a name the first counts.
 */
#define _GNU_SOURCE
#include "tools.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SPECS = 64, MAX_NAME = 128, MAX_TEXT = 16 << 10, MAX_LOOKED_AT = 4096 };

static char names[MAX_SPECS][MAX_NAME + 1];
static int count, looked_at;

static bool is_name(const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t size = strlen(name);
    return size <= MAX_NAME && name[0] != '.' && strspn(name, plain) == size;
}

static bool is_known(const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

static void print_string(const char *text, size_t size)
{
    putchar('"');
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c < 0x20 || c == '"' || c == '\\')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void print_spec(const char *folder, const char *name)
{
    static char text[MAX_TEXT + 1];
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s/kernel.json", folder, name) >= (int)sizeof path)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    if (size <= 0 || size > MAX_TEXT)
        return;
    strcpy(names[count++], name);
    *strrchr(path, '/') = 0;
    fputs("{\"name\":", stdout);
    print_string(name, strlen(name));
    fputs(",\"folder\":", stdout);
    print_string(path, strlen(path));
    fputs(",\"text\":", stdout);
    print_string(text, (size_t)size);
    puts("}");
}

static void look_in(const char *folder)
{
    DIR *directory = opendir(folder);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) && count < MAX_SPECS && looked_at++ < MAX_LOOKED_AT;)
        if (is_name(entry->d_name) && !is_known(entry->d_name))
            print_spec(folder, entry->d_name);
    closedir(directory);
}

/* Looks in `<each of a list><below>`; only where `<each>/<witness>` is there, if one is named. */
static void look_in_each(const char *list, const char *witness, const char *below)
{
    char path[PATH_MAX];
    for (; list && *list; list += *list == ':') {
        int size = (int)strcspn(list, ":");
        bool is_there = size > 0;
        if (is_there && witness)
            is_there = snprintf(path, sizeof path, "%.*s/%s", size, list, witness) < (int)sizeof path && access(path, X_OK) == 0;
        if (is_there && snprintf(path, sizeof path, "%.*s%s", size, list, below) < (int)sizeof path)
            look_in(path);
        list += size;
    }
}

int kernelspecs_main(int argc, char **argv)
{
    (void)argv;
    if (argc != 2) {
        fputs("usage: causeway-init kernelspecs --\n", stderr);
        return 2;
    }
    const char *data = getenv("JUPYTER_DATA_DIR");
    look_in_each(getenv("JUPYTER_PATH"), NULL, "/kernels");
    look_in_each(data, NULL, "/kernels");
    look_in_each(data ? NULL : getenv("HOME"), NULL, "/.local/share/jupyter/kernels");
    look_in_each(getenv("PATH"), "python3", "/../share/jupyter/kernels");
    look_in("/usr/local/share/jupyter/kernels");
    look_in("/usr/share/jupyter/kernels");
    return ferror(stdout) || fflush(stdout) != 0;
}
