#include "data/document_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <tuple>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class DocumentSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"b.py", "a.txt", "pkg/x.py", "pkg/.hidden/y.py", "pkg/__pycache__/z.py",
                             "pkg.py", "pkg/deep/w.py"}) {
      write_text(folder_ / name, name);
    }
  }
  std::vector<std::string> names(const std::vector<std::string>& include) {
    std::vector<std::string> found;
    for (const DocumentFile& file : find_documents({folder_.path()}, include)) found.push_back(file.name);
    return found;
  }
  TemporaryFolder folder_;
};

using Names = std::vector<std::string>;

TEST_F(DocumentSourceTest, SortsByRelativePathAndSkipsHiddenFolders) {
  EXPECT_EQ(names({}), (Names{"a.txt", "b.py", "pkg.py", "pkg/deep/w.py", "pkg/x.py"}));
}

TEST_F(DocumentSourceTest, ASeedPicksAnOrderOfTheSameFiles) {
  const auto shuffled = [&](uint64_t seed) {
    std::vector<DocumentFile> files = find_documents({folder_.path()}, {});
    shuffle_documents(files, seed);
    Names found;
    for (const DocumentFile& file : files) found.push_back(file.name);
    return found;
  };
  EXPECT_EQ(shuffled(1), shuffled(1));
  std::set<Names> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Names order = shuffled(seed);
    orders.insert(order);
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, names({}));
  }
  EXPECT_GT(orders.size(), 12u) << "of 120 orders";
}

TEST_F(DocumentSourceTest, IncludeMatchesNameOrRelativePath) {
  EXPECT_EQ(names({"*.txt"}), (Names{"a.txt"}));
  EXPECT_EQ(names({"pkg/*"}), (Names{"pkg/deep/w.py", "pkg/x.py"}));
  EXPECT_EQ(names({"b.*", "w.py"}), (Names{"b.py", "pkg/deep/w.py"}));
}

TEST_F(DocumentSourceTest, KnowsSizes) {
  EXPECT_EQ(find_documents({folder_.path()}, {"a.txt"})[0].bytes, 5);
}

TEST_F(DocumentSourceTest, LinksToWhatIsReadAnywayAreCounted) {
  std::filesystem::create_symlink(folder_ / "b.py", folder_ / "a-link.py");
  std::filesystem::create_directory_symlink(folder_ / "pkg", folder_ / "linked");
  EXPECT_EQ(names({"*.py"}), (Names{"b.py", "pkg.py", "pkg/deep/w.py", "pkg/x.py"}));
  SkippedEntries skipped;
  find_documents({folder_.path()}, {}, {}, "stdin", &skipped);
  EXPECT_EQ(skipped.repeated, 2);
}

TEST_F(DocumentSourceTest, LinksToElsewhereAreFollowedOnceUnderTheFirstLinksName) {
  TemporaryFolder elsewhere;
  write_text(elsewhere / "deep/c.py", "c");
  write_text(elsewhere / "d.py", "d");
  std::filesystem::create_symlink(elsewhere / "d.py", folder_ / "link.py");
  std::filesystem::create_symlink(elsewhere / "d.py", folder_ / "second.py");
  std::filesystem::create_directory_symlink(elsewhere / "deep", folder_ / "linked");
  EXPECT_EQ(names({"*.py"}),
            (Names{"b.py", "link.py", "linked/c.py", "pkg.py", "pkg/deep/w.py", "pkg/x.py"}));
  const auto named = find_documents({folder_ / "second.py", folder_ / "b.py"}, {});
  EXPECT_EQ(named.at(1).name, "second.py");
}

TEST_F(DocumentSourceTest, LinksInCirclesAndToNothingAreSaid) {
  TemporaryFolder elsewhere;
  write_text(elsewhere / "e.py", "e");
  std::filesystem::create_directory_symlink(folder_.path(), elsewhere / "back");
  std::filesystem::create_directory_symlink(elsewhere.path(), folder_ / "away");
  std::filesystem::create_directory_symlink("..", folder_ / "pkg/up");
  std::filesystem::create_symlink("self", folder_ / "self");
  std::filesystem::create_symlink("nowhere", folder_ / "broken.py");
  SkippedEntries skipped;
  const auto files = find_documents({folder_.path()}, {"e.py"}, {}, "stdin", &skipped);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].name, "away/e.py");
  EXPECT_EQ(skipped.circular, (Names{folder_ / "pkg/up", folder_ / "self"}));
  EXPECT_EQ(skipped.broken, (Names{folder_ / "broken.py"}));
  EXPECT_EQ(skipped.repeated, 1) << "away/back";
}

TEST_F(DocumentSourceTest, HardLinksAreFilesOfTheirOwn) {
  std::filesystem::create_hard_link(folder_ / "b.py", folder_ / "c.py");
  EXPECT_EQ(names({"?.py"}), (Names{"b.py", "c.py", "pkg/deep/w.py", "pkg/x.py"}));
}

TEST_F(DocumentSourceTest, AListComesBackFromItsText) {
  write_text(folder_ / "odd\xE9 name\n.txt", "x");
  std::vector<DocumentFile> files = find_documents({folder_.path()}, {});
  files[0].split = "valid";
  const std::vector<DocumentFile> back = files_of_text(text_of_files(files));
  ASSERT_EQ(back.size(), files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(std::tie(back[i].path, back[i].name, back[i].bytes, back[i].time, back[i].split),
              std::tie(files[i].path, files[i].name, files[i].bytes, files[i].time, files[i].split));
    EXPECT_EQ(why_not_the_same(back[i]), "");
  }
  write_text(folder_ / "a.txt", "longer than before");
  EXPECT_NE(why_not_the_same(back[0]), "");
}

TEST_F(DocumentSourceTest, AFileHasItsOwnName) {
  const auto files = find_documents({folder_ / "pkg/x.py", folder_ / "a.txt"}, {});
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].name, "a.txt");
  EXPECT_EQ(files[1].name, "x.py");
}

TEST_F(DocumentSourceTest, TrailingSlashChangesNothing) {
  EXPECT_EQ(find_documents({folder_.path() + "/"}, {})[0].name, "a.txt");
}

TEST_F(DocumentSourceTest, MissingPathIsUnavailable) {
  EXPECT_THROW(find_documents({folder_ / "none"}, {}), UnavailableError);
}

TEST_F(DocumentSourceTest, NothingFoundIsDataError) {
  EXPECT_THROW(find_documents({folder_.path()}, {"*.c"}), DataError);
}

TEST_F(DocumentSourceTest, AFileReachedTwiceIsConfigError) {
  EXPECT_THROW(find_documents({folder_.path(), folder_ / "b.py"}, {}), ConfigError);
  EXPECT_THROW(find_documents({folder_.path(), folder_ / "pkg"}, {}), ConfigError);
}

}  // namespace
}  // namespace fwl
