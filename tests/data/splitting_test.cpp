#include "data/splitting.h"

#include <gtest/gtest.h>

#include <map>

#include "core/base/error.h"

namespace fwl {
namespace {

std::string name_of(int i) {
  return "folder/file" + std::to_string(i) + ".py";
}

TEST(Splitting, PartsAreRoughlyKept) {
  const auto ranges = parse_splits("valid=0.1,test=0.2");
  std::map<std::string, int> counts;
  for (int i = 0; i < 10000; ++i) ++counts[split_of(name_of(i), ranges)];
  EXPECT_NEAR(counts["valid"], 1000, 150);
  EXPECT_NEAR(counts["test"], 2000, 200);
  EXPECT_NEAR(counts["train"], 7000, 250);
}

// The hash decides splits of data sets that exist: it may never change.
TEST(Splitting, IsAFixedFunctionOfTheName) {
  const auto ranges = parse_splits("valid=0.25,test=0.25");
  std::string found;
  for (int i = 0; i < 24; ++i) found += split_of(name_of(i), ranges).substr(0, 2) + " ";
  EXPECT_EQ(found, "va te va va tr te te va te va tr te va tr tr te va te tr va te va va te ");
}

TEST(Splitting, ALaterSplitDoesNotMoveDocumentsOfAnEarlierOne) {
  const auto few = parse_splits("valid=0.3"), more = parse_splits("valid=0.3,test=0.3");
  for (int i = 0; i < 500; ++i)
    EXPECT_EQ(split_of(name_of(i), few) == "valid", split_of(name_of(i), more) == "valid");
}

TEST(Splitting, EmptyTextPutsEverythingIntoTrain) {
  EXPECT_EQ(split_of("x", parse_splits("")), "train");
}

TEST(Splitting, RefusesWhatCannotBe) {
  for (const char* text : {"valid", "valid=", "valid=x", "valid=-0.1", "valid=1.5", "valid=0.6,test=0.6",
                           "=0.1", "a=0.1,a=0.1", "../x=0.1", "a/b=0.1", ".=0.1", "valid=nan"}) {
    EXPECT_THROW(parse_splits(text), ConfigError) << text;
  }
}

}  // namespace
}  // namespace fwl
