// `~` in options that are paths, for all commands in one place: the shell leaves it alone in --json=~/x and
// in quotes.
#pragma once

namespace CLI {
class App;
}

namespace fwl {

// Of all subcommands, once they are declared: options whose type name is that of a file or folder.
void expand_paths(CLI::App& app);

}  // namespace fwl
