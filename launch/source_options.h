// Options of the commands that read sources of text.
#pragma once

#include "data/document_reader.h"

namespace CLI {
class App;
}

namespace fwl {

// Declares --field, --format and --bad-lines, bound to `format`.
void add_format_options(CLI::App& command, DocumentFormat& format);
// Prints which links and folders were not read, and why.
void say_what_was_skipped(const SkippedEntries& skipped);

}  // namespace fwl
