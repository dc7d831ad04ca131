#include "data/document_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

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

TEST_F(DocumentSourceTest, DoesNotFollowLinks) {
  std::filesystem::create_symlink(folder_ / "b.py", folder_ / "link.py");
  std::filesystem::create_directory_symlink(folder_ / "pkg", folder_ / "linked");
  EXPECT_EQ(names({"*.py"}), (Names{"b.py", "pkg.py", "pkg/deep/w.py", "pkg/x.py"}));
  SkippedEntries skipped;
  find_documents({folder_.path()}, {}, {}, "stdin", &skipped);
  EXPECT_EQ(skipped.links, 2);
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

TEST_F(DocumentSourceTest, MissingPathIsDataError) {
  EXPECT_THROW(find_documents({folder_ / "none"}, {}), DataError);
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
