// Signals that ask a run to end in good order: SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2. The first is noted;
// training looks at it once a step, and before each long step of its start. A second SIGINT ends the process
// at once, with exit code 130.
//
// Of `fwl train` they are blocked from the first instruction of the program on, before its libraries are set
// up, until install_stop_signals(): what comes meanwhile waits, and is noted then.
#pragma once

#include <string>

namespace fwl {

// Installs the handlers and lets signals through that waited. SIGHUP stays ignored where it was (nohup).
// SIGPIPE is ignored from here on: a closed pipe behind the log must not end a run.
void install_stop_signals();
// Name of the first stop signal that came ("SIGTERM"); empty when none did.
std::string stop_signal();

}  // namespace fwl
