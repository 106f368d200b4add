// The arguments of the process, as startup.c received them before the constructors of shared libraries ran.

#ifndef CSTARTUP_H
#define CSTARTUP_H

// Number and texts of the process' arguments; index 0 is the program's name. Swift's CommandLine would read them from
// /proc, which may be missing.
int startup_argument_count(void);
const char *_Nonnull startup_argument(int index);

#endif
