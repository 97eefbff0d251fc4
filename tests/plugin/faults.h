/* What a vendor's code does now and then, on demand: of the test plug-in and of the test delegate.
 *
 * Options: fault=NAME, at_run=N (the fault shows from the run number N on, the first is 1), mark=FILE (created when the fault
 * shows, so that a process begun later is well), then=NAME (the fault that one begun later has from the
 * beginning, which creates FILE.again), when=FILE (the fault shows only while there is such a file), ended=FILE (created when a
 * model is given back).
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char fault[32], then[32];
    char mark[512], when[512], ended[512];
    unsigned at_run, runs;
} faults;

/* Takes one option; 0 if the key is not known. */
static int take_option(faults *of, const char *key, const char *value) {
    if (!strcmp(key, "fault")) snprintf(of->fault, sizeof of->fault, "%s", value);
    else if (!strcmp(key, "then")) snprintf(of->then, sizeof of->then, "%s", value);
    else if (!strcmp(key, "mark")) snprintf(of->mark, sizeof of->mark, "%s", value);
    else if (!strcmp(key, "when")) snprintf(of->when, sizeof of->when, "%s", value);
    else if (!strcmp(key, "ended")) snprintf(of->ended, sizeof of->ended, "%s", value);
    else if (!strcmp(key, "at_run")) of->at_run = (unsigned)atoi(value);
    else return 0;
    return 1;
}

static void make_file(const char *path) {
    FILE *file = fopen(path, "w");
    if (file) fclose(file);
}

/* With all options taken: whether this process is one begun later. */
static void begin(faults *of) {
    if (!of->then[0] || access(of->mark, F_OK)) return;
    snprintf(of->fault, sizeof of->fault, "%s", of->then);
    char again[520];
    snprintf(again, sizeof again, "%s.again", of->mark);
    make_file(again);
    of->mark[0] = 0;
    of->at_run = 1;
}

static int has_fault(const faults *of, const char *fault) { return !strcmp(of->fault, fault); }

/* A raised signal would be forgiven by the handler that Rust brings for stack overflows; a real fault comes again. */
static void crash(void) { *(volatile int *)8 = 1; }

static void hang(void) { for (;;) pause(); }

/* Whether it is time for `fault`, which leaves its mark. */
static int shows(faults *of, const char *fault) {
    if (!has_fault(of, fault) || of->runs < of->at_run) return 0;
    if (of->when[0] && access(of->when, F_OK)) return 0;
    if (!of->mark[0]) return 1;
    if (!access(of->mark, F_OK)) return 0;
    make_file(of->mark);
    return 1;
}

/* How long a device is made ready where that is slow. */
enum { CREATE_SLOW_S = 4 };

/* How long a run of a segment takes where it is slow: longer than on any processor. */
enum { SLOW_SEGMENT_US = 300 * 1000 };

/* What happens in a run whatever the interface: slow, segv, hang, leak. */
static void misbehave(faults *of) {
    if (shows(of, "slow")) usleep(20 * 1000);
    if (shows(of, "segv")) crash();
    if (shows(of, "hang")) hang();
    if (shows(of, "leak")) {
        /* Twice what a worker may have: where nothing bounds it, it hangs. Nothing is written to it, so that the machine keeps its
         * memory all the same. */
        for (int pieces = 0; pieces < 64; pieces++) {
            volatile char *more = malloc(1 << 24);
            if (!more) abort();
            *more = 1;
        }
        hang();
    }
}

#endif
