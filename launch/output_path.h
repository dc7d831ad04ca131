// Where results may be written: refused before any work when they could not be kept, or would replace what
// they come from.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace fwl {

// For options that name a file to write: its folder exists and can be written, and `path` is no folder,
// device or file of a checkpoint, a run or a data set. Throws DataError, UnavailableError, ConfigError.
CLI::Validator file_in_a_folder();
// The same of a file whose name comes of another's.
void require_output_file(const std::string& path);
// For options that name a folder to fill: it can be made or written, is no file, and no part of a checkpoint
// or a data set. kDataset: a data set itself may be there (whoever writes one knows when it is replaced).
enum class FolderOf { kFiles, kDataset };
CLI::Validator folder_to_fill(FolderOf what = FolderOf::kFiles);

// Refuses a command line on which a file to write (file_in_a_folder) is named by another option or argument
// too, by the same or another path. add_json_option() calls it.
void keep_outputs_apart(CLI::App& command);
// Throws ConfigError when `path` is the same file as one of `inputs`. `option` names it: "--json".
void require_no_input(const std::string& option, const std::string& path,
                      const std::vector<std::string>& inputs);

}  // namespace fwl
