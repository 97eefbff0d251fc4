/* TensorFlow Lite for tests: all of it is the library that this is linked against, but for a run, which does on demand what faults.h
 * knows. There is no way to tell a library of TensorFlow Lite anything: OPTIONS is compiled into it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "faults.h"

enum { ERROR = 1 };

static void take_options(faults *of) {
    char options[] = OPTIONS;
    of->at_run = 1;
    for (char *at = strtok(options, ","); at; at = strtok(NULL, ",")) {
        char *value = strchr(at, '=');
        *value++ = 0;
        take_option(of, at, value);
    }
    begin(of);
}

int TfLiteInterpreterInvoke(void *interpreter) {
    static faults faults;
    static int (*invoke)(void *);
    if (!invoke) {
        invoke = (int (*)(void *))dlsym(RTLD_NEXT, "TfLiteInterpreterInvoke");
        take_options(&faults);
    }
    faults.runs++;
    misbehave(&faults);
    return shows(&faults, "error") ? ERROR : invoke(interpreter);
}
