#include "parallel/launcher.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

const Environment kSlurmStep = {
    {"SLURM_PROCID", "1"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_NTASKS", "4"}};

Environment with(Environment environment, const Environment& more) {
  for (const auto& [name, value] : more) environment[name] = value;
  return environment;
}

TEST(Launcher, NoneMeansNoMpi) {
  EXPECT_FALSE(started_by_launcher({{"PATH", "/bin"}}));
  EXPECT_EQ(copies_of_rank_zero({{"PATH", "/bin"}}, 1), "");
}

TEST(Launcher, IsSeenByItsRankVariable) {
  EXPECT_TRUE(started_by_launcher({{"OMPI_COMM_WORLD_RANK", "0"}}));
  EXPECT_TRUE(started_by_launcher({{"PMI_RANK", "3"}}));
  EXPECT_TRUE(started_by_launcher(kSlurmStep));
}

TEST(Launcher, SaysTheRankOfAProcess) {
  EXPECT_EQ(rank_of_launcher({{"PATH", "/bin"}}), 0);
  EXPECT_EQ(rank_of_launcher({{"OMPI_COMM_WORLD_RANK", "2"}, {"PMI_RANK", "0"}}), 2);
  EXPECT_EQ(rank_of_launcher({{"PMI_RANK", "3"}}), 3);
  EXPECT_EQ(rank_of_launcher({{"SLURM_PROCID", "5"}, {"SLURM_STEP_ID", "0"}}), 5);
  EXPECT_EQ(rank_of_launcher({{"SLURM_PROCID", "5"}}), 0) << "a batch script";
}

TEST(Launcher, BatchScriptIsNoStep) {
  const Environment batch = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "17"}};
  EXPECT_FALSE(started_by_launcher(batch));
  EXPECT_EQ(copies_of_rank_zero(batch, 1), "");
}

TEST(Launcher, SlurmStepWithoutPmixIsCopiesOfRankZero) {
  const std::string problem = copies_of_rank_zero(kSlurmStep, 1);
  EXPECT_NE(problem.find("4 copies of rank 0"), std::string::npos) << problem;
  EXPECT_NE(problem.find("SLURM_STEP_NUM_TASKS=4"), std::string::npos) << problem;
  EXPECT_NE(problem.find("srun --mpi=pmix"), std::string::npos) << problem;
}

TEST(Launcher, OldSlurmWithoutStepTasksUsesTheJobs) {
  const Environment step = {{"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"}};
  EXPECT_NE(copies_of_rank_zero(step, 1), "");
}

TEST(Launcher, AStepOfOneTaskInALargeJobIsFine) {
  EXPECT_EQ(copies_of_rank_zero(with(kSlurmStep, {{"SLURM_STEP_NUM_TASKS", "1"}}), 1), "");
}

TEST(Launcher, AWorldOfSeveralRanksIsFine) {
  EXPECT_EQ(copies_of_rank_zero(kSlurmStep, 4), "");
}

TEST(Launcher, UnderMpirunSlurmVariablesDescribeItsDaemonsAndAreIgnored) {
  EXPECT_EQ(copies_of_rank_zero(with(kSlurmStep, {{"OMPI_COMM_WORLD_SIZE", "1"}}), 1), "");
}

TEST(Launcher, AnotherMpiThanTheLaunchersIsCopiesOfRankZero) {
  EXPECT_NE(copies_of_rank_zero({{"OMPI_COMM_WORLD_SIZE", "2"}}, 1), "");
  EXPECT_NE(copies_of_rank_zero({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}, 1), "");
  EXPECT_EQ(copies_of_rank_zero({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}, 1), "");
}

TEST(Launcher, OnlyAPlainMpirunKillsTooSoon) {
  struct Row {
    const char* what;
    Environment environment;
    bool warned;
  };
  const Environment mpirun = {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}};
  for (const Row& row : std::vector<Row>{
           {"no launcher", {{"PATH", "/bin"}}, false},
           {"mpirun", mpirun, true},
           {"mpirun in a Slurm job", with(kSlurmStep, mpirun), true},
           {"launch/mpirun.sh", with(mpirun, {{"FWL_LAUNCHER", "mpirun.sh"}}), false},
           {"mpirun that waits", with(mpirun, {{"OMPI_MCA_odls_base_sigkill_timeout", "600"}}), false},
           {"mpirun that hardly waits", with(mpirun, {{"OMPI_MCA_odls_base_sigkill_timeout", "2"}}), true},
           {"srun", kSlurmStep, false},
           {"PMIx", {{"PMIX_RANK", "0"}}, false},
       }) {
    const std::string warning = kills_too_soon(row.environment);
    EXPECT_EQ(!warning.empty(), row.warned) << row.what;
    EXPECT_EQ(warning.find("launch/mpirun.sh") != std::string::npos, row.warned) << row.what;
  }
}

TEST(Launcher, SaysHowManyRanksAHostHas) {
  const Environment flux = {{"FLUX_TASK_RANK", "3"}, {"FLUX_JOB_SIZE", "9"}, {"FLUX_JOB_NNODES", "2"}};
  const Environment uneven = with(kSlurmStep, {{"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}});
  const std::vector<std::pair<Environment, int>> cases = {
      {{}, 1},
      {{{"OMPI_COMM_WORLD_LOCAL_SIZE", "8"}}, 1},  // a variable that was left over, without a rank
      {{{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "8"}}, 8},
      {{{"PMI_RANK", "0"}, {"MPI_LOCALNRANKS", "4"}}, 4},
      {{{"PALS_RANKID", "0"}, {"PMI_LOCAL_SIZE", "16"}}, 16},
      {{{"PMIX_RANK", "0"}}, 1},
      {kSlurmStep, 1},
      {with(uneven, {{"SLURM_NODEID", "0"}}), 4},
      {with(uneven, {{"SLURM_NODEID", "1"}}), 4},
      {with(uneven, {{"SLURM_NODEID", "2"}}), 3},
      {with(uneven, {{"SLURM_NODEID", "7"}}), 1},
      {with(uneven, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), 2},
      {flux, 5}};
  for (const auto& [environment, ranks] : cases) EXPECT_EQ(ranks_of_host(environment), ranks);
}

}  // namespace
}  // namespace fwl
