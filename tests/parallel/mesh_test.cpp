#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace fwl {
namespace {

std::string refusal(int64_t data, int64_t sequence, int ranks) {
  try {
    mesh_shape(data, sequence, ranks);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(MeshShape, MinusOneTakesWhatIsLeft) {
  EXPECT_EQ(mesh_shape(-1, 2, 8).to_string(), "4x2");
  EXPECT_EQ(mesh_shape(2, -1, 8).to_string(), "2x4");
  EXPECT_EQ(mesh_shape(-1, 1, 1).to_string(), "1x1");
  EXPECT_EQ(mesh_shape(3, 2, 6).ranks(), 6);
}

TEST(MeshShape, ImpossibleLayoutsAreRefusedWithThoseThatFit) {
  EXPECT_NE(refusal(3, 2, 8).find("1x8, 2x4, 4x2, 8x1"), std::string::npos) << refusal(3, 2, 8);
  EXPECT_NE(refusal(3, 2, 8).find("start 6 ranks"), std::string::npos);
  EXPECT_NE(refusal(-1, 3, 4).find("1x4, 2x2, 4x1"), std::string::npos);
  EXPECT_NE(refusal(-1, -1, 4), "");
  EXPECT_NE(refusal(0, 1, 1), "");
  EXPECT_NE(refusal(-2, 1, 2), "");
  EXPECT_NE(refusal(2, 2, 1), "");
}

TEST(SplitHosts, PlacesCountNotNumbers) {
  struct Row {
    const char* what;
    MeshShape shape;
    std::vector<int> first_ranks;  // of the ranks' hosts
    const char* warning;           // a part of it; empty: none
  };
  const std::vector<Row> rows = {
      {"one rank", {1, 1}, {0}, ""},
      {"blocks", {2, 2}, {0, 0, 2, 2}, ""},
      {"cyclic: as many a host, but not neighbours", {2, 2}, {0, 1, 0, 1}, "2 of 2 sequences"},
      {"no sequence axis", {4, 1}, {0, 1, 0, 1}, ""},
      {"uneven hosts, sequences whole", {3, 2}, {0, 0, 0, 0, 4, 4}, ""},
      {"uneven hosts, one sequence split",
       {2, 3},
       {0, 0, 0, 0, 4, 4},
       "1 of 2 sequences lie on several hosts (ranks 3 to 5)"},
      {"longer than a host", {1, 4}, {0, 0, 2, 2}, "ranks 0 to 3"},
  };
  for (const Row& row : rows) {
    const std::string warning = split_hosts_warning(row.shape, row.first_ranks);
    EXPECT_EQ(warning.empty(), std::string(row.warning).empty()) << row.what << ": " << warning;
    EXPECT_NE(warning.find(row.warning), std::string::npos) << row.what << ": " << warning;
  }
}

}  // namespace
}  // namespace fwl
