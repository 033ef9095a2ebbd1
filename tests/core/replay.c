/* replay.c: runs what fuzzers have found, without a fuzzer: `replay_NAME tests/fuzz fuzz_NAME` gives every file of
 * tests/fuzz/corpus/fuzz_NAME and tests/fuzz/crashes/fuzz_NAME to the entry point of fuzz_NAME.c, linked with this.
 * A crash that was found once is a test of its own for ever, named after what went wrong. */
#include "harness.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count);

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    EXPECT(file != NULL);
    EXPECT(fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    EXPECT(size >= 0 && fseek(file, 0, SEEK_SET) == 0);
    /* A block of its own, so that the address sanitizer sees a step beyond. */
    uint8_t *bytes = malloc(size == 0 ? 1 : (size_t)size);
    EXPECT(fread(bytes, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
}

/* Returns how many files there were. */
static int replay_all(const char *folder, const char *kind, const char *target, bool says_each)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", folder, kind, target);
    DIR *opened = opendir(path);
    int count = 0;
    if (opened == NULL)
        return 0;
    for (const struct dirent *found; (found = readdir(opened)) != NULL;) {
        if (found->d_name[0] == '.')
            continue;
        int written = snprintf(path, sizeof path, "%s/%s/%s/%s", folder, kind, target, found->d_name);
        EXPECT(written > 0 && (size_t)written < sizeof path);
        /* Said beforehand: it may be the last that we say. */
        fprintf(stderr, "%s\n", path);
        replay(path);
        count++;
        if (says_each)
            printf("ok %s: %s\n", target, found->d_name);
    }
    closedir(opened);
    return count;
}

int main(int argument_count, char **arguments)
{
    EXPECT(argument_count == 3);
    int crashes = replay_all(arguments[1], "crashes", arguments[2], true);
    int inputs = replay_all(arguments[1], "corpus", arguments[2], false);
    EXPECT(inputs > 0);
    printf("ok %s: %d inputs of its corpus, after %d that crashed once\n", arguments[2], inputs, crashes);
    return harness_end();
}
