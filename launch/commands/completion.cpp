#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "launch/command.h"
#include "launch/run_config.h"

namespace fwl {
namespace {

// Commands and options that may follow a command; groups of options without a name belong to it.
std::string words_of(const CLI::App& command) {
  std::ostringstream words;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) words << " --" << name;
    for (const std::string& name : option->get_snames()) words << " -" << name;
  }
  for (const CLI::App* below : command.get_subcommands(nullptr))
    words << (below->get_name().empty() ? words_of(*below) : " " + below->get_name());
  return words.str();
}

// One line of a `case` for a command and each one below it: its path, its words.
void write_cases(const CLI::App& command, const std::string& path, std::ostream& out) {
  out << "    '" << path << "') words='" << words_of(command).substr(1) << "' ;;\n";
  for (const CLI::App* below : command.get_subcommands(nullptr))
    if (!below->get_name().empty()) write_cases(*below, path + " " + below->get_name(), out);
}

std::string keys() {
  RunConfig config;
  const FieldList list = fields_of(config);
  std::string text;
  for (const Field& field : list.fields()) text += (text.empty() ? "" : " ") + field.path + "=";
  return text;
}

// The path of commands is the longest one that the words before the cursor make. After --set come keys; where
// nothing fits, file names (complete -o default).
std::string bash_script(const CLI::App& app) {
  std::ostringstream cases;
  write_cases(app, "fwl", cases);
  return "_fwl() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} path=fwl words='' i\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    case \" $(_fwl_words \"$path\") \" in\n"
         "      *\" ${COMP_WORDS[i]} \"*) [[ ${COMP_WORDS[i]} == -* ]] || path+=\" ${COMP_WORDS[i]}\" ;;\n"
         "    esac\n"
         "  done\n"
         "  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == --set ]]; then\n"
         "    words='" +
         keys() +
         "'\n"
         "    compopt -o nospace 2>/dev/null\n"
         "  else\n"
         "    words=$(_fwl_words \"$path\")\n"
         "  fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "_fwl_words() {\n"
         "  local words=''\n"
         "  case $1 in\n" +
         cases.str() +
         "  esac\n"
         "  echo \"$words\"\n"
         "}\n"
         "complete -o default -F _fwl fwl\n";
}

}  // namespace

void add_completion_command(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "completion",
      "print what completes fwl's commands, options and keys in a shell: source <(fwl completion bash)");
  command->add_option("shell", *shell, "bash or zsh")
      ->required()
      ->type_name("SHELL")
      ->check(CLI::IsMember({"bash", "zsh"}));
  command->callback([shell, &app] {
    if (*shell == "zsh") std::cout << "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n";
    std::cout << bash_script(app);
  });
}

}  // namespace fwl
