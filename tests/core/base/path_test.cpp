#include "core/base/path.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

TEST(Path, ATildeIsTheHomeFolder) {
  setenv("HOME", "/home/me", 1);
  for (const auto& [given, expected] :
       std::vector<std::pair<std::string, std::string>>{{"~", "/home/me"},
                                                        {"~/x/y", "/home/me/x/y"},
                                                        {"a~/b", "a~/b"},
                                                        {"./~x", "./~x"},
                                                        {"", ""},
                                                        {"auto", "auto"}})
    EXPECT_EQ(expand_home(given), expected);
  EXPECT_THROW(expand_home("~you/x"), ConfigError);
  unsetenv("HOME");
  EXPECT_THROW(expand_home("~/x"), ConfigError);
}

TEST(Path, OnePlaceHasOneName) {
  for (const auto& [given, expected] :
       std::vector<std::pair<std::string, std::string>>{{"runs/a", "runs/a"},
                                                        {"runs/a/", "runs/a"},
                                                        {"runs//a///", "runs/a"},
                                                        {"./runs/./a/.", "runs/a"},
                                                        {"/", "/"}})
    EXPECT_EQ(tidy_path(given), expected) << given;
  EXPECT_EQ(tidy_path("."), std::filesystem::current_path().string());
  EXPECT_THROW(tidy_path(""), ConfigError);
}

TEST(Path, TheParentIsThatOfWhereALinkLeads) {
  TemporaryFolder folder;
  const std::string root = std::filesystem::canonical(folder.path());
  std::filesystem::create_directories(root + "/disk/runs");
  std::filesystem::create_directory_symlink(root + "/disk/runs", root + "/link");
  EXPECT_EQ(tidy_path(root + "/link/"), root + "/link") << "a link at the end stays";
  EXPECT_EQ(tidy_path(root + "/link/../other"), root + "/disk/other");
}

}  // namespace
}  // namespace fwl
