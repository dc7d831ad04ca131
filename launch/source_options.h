// Options of the commands that read sources of text.
#pragma once

#include <string>
#include <vector>

#include "data/document_reader.h"

namespace CLI {
class App;
}

namespace fwl {

// Declares --include and --exclude.
void add_filter_options(CLI::App& command, std::vector<std::string>& include,
                        std::vector<std::string>& exclude);
// Declares --field, --format and --bad-lines, bound to `format`.
void add_format_options(CLI::App& command, DocumentFormat& format);
// Prints which links and folders were not read, and why.
void say_what_was_skipped(const SkippedEntries& skipped);
void add_to(SkippedEntries& sum, const SkippedEntries& more);
// Prints how many lines were passed over, and the first of them; nothing for none.
void say_bad_lines(int64_t count, const std::vector<BadLine>& first);

}  // namespace fwl
