#include "core/base/config.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

struct Inner {
  double rate = 0.001;
  bool shared = false;
  void visit_fields(FieldList& list) {
    list.add("rate", rate, "step size", between(0, 1));
    list.add("shared", shared, "one for all rows");
  }
};

struct Outer {
  int64_t steps = 100;
  std::string norm = "rms";
  std::string path = "a: b # c";
  Inner layer;
  void visit_fields(FieldList& list) {
    list.add("steps", steps, "optimizer steps", at_least(1));
    list.add_choice("norm", norm, {"rms", "layer"}, "normalisation");
    list.add("path", path, "any text");
    list.section("layer", layer);
  }
};

std::string message_of(const std::string& yaml) {
  Outer config;
  try {
    apply_yaml(fields_of(config), yaml, "test.yaml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Config, ReadsNestedValuesAndKeepsTheRest) {
  Outer config;
  apply_yaml(fields_of(config), "steps: 7\nlayer:\n  shared: true\n", "test.yaml");
  EXPECT_EQ(config.steps, 7);
  EXPECT_TRUE(config.layer.shared);
  EXPECT_EQ(config.layer.rate, 0.001);
  EXPECT_EQ(config.norm, "rms");
}

TEST(Config, AnUnknownKeySuggestsTheNearestAndNamesTheLine) {
  const std::string message = message_of("steps: 3\nlayer:\n  raet: 0.1\n");
  EXPECT_TRUE(contains(message, "layer.raet")) << message;
  EXPECT_TRUE(contains(message, "Did you mean 'layer.rate'?")) << message;
  EXPECT_TRUE(contains(message, "test.yaml:3")) << message;
  EXPECT_TRUE(contains(message_of("step: 3"), "Did you mean 'steps'?"));
  EXPECT_TRUE(contains(message_of("layr:\n  rate: 0.1\n"), "layr"));
}

TEST(Config, AKeyFarFromAllSuggestsNone) {
  EXPECT_FALSE(contains(message_of("zzzzzzzzzzzz: 3"), "Did you mean"));
}

TEST(Config, ValuesOutOfRangeNameTheRange) {
  EXPECT_TRUE(contains(message_of("steps: 0"), "from 1"));
  const std::string message = message_of("layer:\n  rate: 1.5\n");
  EXPECT_TRUE(contains(message, "layer.rate = 1.5")) << message;
  EXPECT_TRUE(contains(message, "from 0 to 1")) << message;
  EXPECT_TRUE(contains(message_of("layer:\n  rate: .nan\n"), "rate"));
}

TEST(Config, NumbersAreFinite) {
  for (const char* value : {".inf", "-.inf", ".nan", "inf", "nan", "1e999"})
    EXPECT_NE(message_of(std::string("layer:\n  rate: ") + value), "") << value;
}

// Of two values one would be ignored without a word.
TEST(Config, AKeyGivenTwiceIsRefusedWithBothLines) {
  for (const auto& [yaml, first, second] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"steps: 3\nnorm: rms\nsteps: 5\n", "test.yaml:1", "test.yaml:3"},
           {"layer:\n  rate: 0.1\n  rate: 0.1\n", "test.yaml:2", "test.yaml:3"},
           {"layer:\n  rate: 0.1\nsteps: 3\nlayer:\n  shared: true\n", "test.yaml:1", "test.yaml:4"},
           {"layer: {rate: 0.1, shared: true, rate: 0.2}\n", "test.yaml:1", "layer.rate"},
           {"layer.rate: 0.1\nlayer:\n  rate: 0.2\n", "test.yaml:1", "test.yaml:3"}}) {
    const std::string message = message_of(yaml);
    EXPECT_TRUE(contains(message, first) && contains(message, second) && contains(message, "given before"))
        << yaml << message;
  }
}

TEST(Config, AnchorsAndMergesAreNoDoubledKeys) {
  Outer config;
  apply_yaml(fields_of(config), "layer: &a\n  rate: 0.5\nsteps: &n 7\n", "test.yaml");
  EXPECT_EQ(config.layer.rate, 0.5);
  apply_yaml(fields_of(config), "layer:\n  <<: {rate: 0.25, shared: true}\n  rate: 0.75\n", "test.yaml");
  EXPECT_EQ(config.layer.rate, 0.75) << "the map's own key stands before the one it takes over";
  EXPECT_TRUE(config.layer.shared);
  EXPECT_TRUE(contains(message_of("layer:\n  <<: 3\n"), "<<"));
}

TEST(Config, ASecondDocumentIsRefused) {
  EXPECT_TRUE(contains(message_of("steps: 3\n---\nsteps: 5\n"), "second YAML document"));
  for (const char* yaml : {"---\nsteps: 3\n", "steps: 3\n...\n", "# nothing\n", "steps: 3\n---\n"})
    EXPECT_EQ(message_of(yaml), "") << yaml;
}

TEST(Config, WindowsLineEndsAreReadAndTabsAreExplained) {
  Outer config;
  apply_yaml(fields_of(config), "steps: 9\r\nlayer:\r\n  rate:\t0.5\r\n", "test.yaml");
  EXPECT_EQ(config.steps, 9);
  EXPECT_EQ(config.layer.rate, 0.5);
  EXPECT_TRUE(contains(message_of("layer:\n\trate: 0.5\n"), "Line 2 is indented with a tab"));
}

TEST(Config, ChoicesNameWhatExists) {
  const std::string message = message_of("norm: layr");
  EXPECT_TRUE(contains(message, "rms|layer")) << message;
  EXPECT_TRUE(contains(message, "Did you mean 'layer'?")) << message;
}

TEST(Config, WholeNumbersMayBeWrittenWithAnExponent) {
  Outer config;
  apply_yaml(fields_of(config), "steps: 1e6", "test.yaml");
  EXPECT_EQ(config.steps, 1'000'000);
}

TEST(Config, WrongTypesAreRefused) {
  for (const char* yaml : {"steps: 1.5", "steps: ten", "steps: 3x", "steps: [1, 2]", "steps:\n  a: 1",
                           "layer: 3", "layer:\n  shared: perhaps", "layer:\n  rate: fast", "- 1\n- 2",
                           "steps: {", "steps: ", "steps: 1e30"}) {
    EXPECT_NE(message_of(yaml), "") << yaml;
  }
}

TEST(Config, SettingsChangeOneKey) {
  Outer config;
  apply_setting(fields_of(config), "layer.rate=0.25");
  apply_setting(fields_of(config), "path=x=y");
  EXPECT_EQ(config.layer.rate, 0.25);
  EXPECT_EQ(config.path, "x=y");
  EXPECT_THROW(apply_setting(fields_of(config), "layer.rate"), ConfigError);
  EXPECT_THROW(apply_setting(fields_of(config), "=3"), ConfigError);
  EXPECT_THROW(apply_setting(fields_of(config), "layer.speed=3"), ConfigError);
  EXPECT_THROW(apply_setting(fields_of(config), "layer=3"), ConfigError);
}

TEST(Config, PrintedYamlGivesTheSameConfig) {
  Outer config;
  config.steps = 123'456'789;
  config.layer.rate = 0.1 + 0.2;
  config.layer.shared = true;
  config.norm = "layer";
  for (const std::string& path : {std::string("a: b # c"), std::string(""), std::string("yes"),
                                  std::string("12"), std::string("two\nlines"), std::string(" 'x\" ")}) {
    config.path = path;
    for (const HelpComments comments : {HelpComments::kOmit, HelpComments::kInclude}) {
      Outer copy;
      apply_yaml(fields_of(copy), to_yaml(fields_of(config), comments), "printed");
      EXPECT_TRUE(differences(fields_of(config), fields_of(copy)).empty())
          << to_yaml(fields_of(config), comments);
      EXPECT_EQ(copy.path, path);
      EXPECT_EQ(copy.layer.rate, config.layer.rate);
    }
  }
}

TEST(Config, DifferencesNameKeyAndBothValues) {
  Outer left, right;
  right.steps = 5;
  right.layer.shared = true;
  EXPECT_EQ(differences(fields_of(left), fields_of(right)),
            (std::vector<std::string>{"steps: 100 -> 5", "layer.shared: false -> true"}));
}

TEST(Config, AMissingFileIsConfigError) {
  TemporaryFolder folder;
  Outer config;
  EXPECT_THROW(apply_yaml_file(fields_of(config), folder / "none.yaml"), ConfigError);
  EXPECT_THROW(apply_yaml_file(fields_of(config), folder.path()), ConfigError);
  write_text(folder / "some.yaml", "steps: 9\n");
  apply_yaml_file(fields_of(config), folder / "some.yaml");
  EXPECT_EQ(config.steps, 9);
}

TEST(Config, AnEmptyFileChangesNothing) {
  EXPECT_EQ(message_of(""), "");
}

}  // namespace
}  // namespace fwl
