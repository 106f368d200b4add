// Code that runs before the constructors of shared libraries, and the arguments that it receives.

#ifndef CSTARTUP_H
#define CSTARTUP_H

// The arguments of the process; index 0 is the program's name. Swift's CommandLine reads them from /proc, which may be missing.
int startup_argument_count(void);
const char *_Nonnull startup_argument(int index);

#endif
