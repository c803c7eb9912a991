"""Long tests of kinds that quicker ones beside them cover too: `make proof` runs them."""

_BUG = "tests/parity/diagnosis/test_mutants.py::test_a_planted_bug_is_caught"
_FAULT = "tests/parity/test_ports.py::test_every_fault_has_its_place_and_cause"
_RIGHT = "tests/parity/test_ports.py::test_a_right_port_passes"
_FAMILY = "tests/jax_impl/models/test_family.py::test"
_RECIPE = "tests/parity/commands/test_recipes.py::test"
_TRAINING = "tests/parity/diagnosis/test_training_causes.py::test"
_RESUME = "tests/parity/commands/test_resume_command.py::test"
_DAMAGED = (
    "tests/jax_impl/training/test_resume.py::test_a_damaged_one_is_told_and_an_older_one_taken"
)
PROOFS = {
    f"{_BUG}[frozen bias]",
    f"{_BUG}[learning rate decays each step]",
    f"{_BUG}[no shortcut]",
    f"{_BUG}[adam eps inside the root]",
    f"{_BUG}[gradients clipped]",
    f"{_BUG}[labels of other examples]",
    f"{_BUG}[optimizer state made anew]",
    f"{_BUG}[step taken twice]",
    f"{_FAULT}[block, eps at two places, no names]",
    f"{_FAULT}[block, both faults, no names]",
    f"{_RIGHT}[biases before BatchNorm, 10x10]",
    "tests/parity/test_ports.py::test_a_variance_in_one_pass_is_said_to_be_noisy[batch-2000]",
    "tests/parity/test_ports.py::test_zero_gradients_pass_by_every_seed[2]",
    f"{_FAMILY}_gradients_in_float64[preact_resnet18]",
    f"{_FAMILY}_outputs_and_statistics_in_float64[resnext50_32x4d-45x37]",
    f"{_FAMILY}_outputs_and_statistics_in_float64"
    "[resnet50:replace_stride_with_dilation=true,true,true-45x37]",
    "tests/parity/commands/test_train_command.py::"
    "test_two_deterministic_runs_in_bfloat16_are_the_same[train_torch.py]",
    "tests/parity/speed/test_losses.py::"
    "test_every_way_of_writing_it_computes_the_same[resnet18:width=4-inference]",
    "tests/jax_impl/training/test_regions.py::test_weights_that_are_not_read_are_passed_over[sgd]",
    f"{_TRAINING}_a_training_follows_from_its_optimizer"
    "[jax_side1-betas (0.999, 0.9) in place of PyTorch's (0.9, 0.999)]",
    "tests/parity/ladder/test_accuracy.py::test_other_weights_fail",
    "tests/parity/ladder/test_ladder.py::test_a_correct_pair_passes[residual-batch_stats]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[momentum]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[nesterov]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[weight_decay]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[milestones]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[gamma]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[warmup]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[clip_norm]",
    f"{_RECIPE}_a_recipe_trains_alike[simple_cnn:channels=4,4:hidden=8-cosine]",
    f"{_RECIPE}_a_recipe_trains_alike[simple_cnn:channels=4,4:hidden=8-warm-up alone]",
    f"{_RECIPE}_a_recipe_trains_alike[simple_cnn:channels=4,4:hidden=8-the notebook's]",
    *(
        f"{_RESUME}_a_stopped_run_goes_on_bit_for_bit[{case}]"
        for case in (
            "jax-within",
            "jax-end",
            "jax as PyTorch-second",
            "jax as PyTorch-end",
            "torch-within",
            "torch-end",
        )  # fmt: skip
    ),
    f"{_RESUME}_options_replace_what_a_config_says[jax]",
    f"{_RESUME}_events_for_tensorboard[jax]",
    "tests/parity/commands/test_train_command.py::"
    "test_two_deterministic_runs_in_bfloat16_are_the_same[train_jax.py]",
    "tests/parity/commands/test_train_command.py::test_both_scripts_augment_alike",
    "tests/parity/commands/test_run_command.py::test_the_data_rung_on_cifar10",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[decay_norms]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[label_smoothing]",
    f"{_RECIPE}_what_one_side_does_otherwise_shows[schedule]",
    *(
        f"{_DAMAGED}[{case}]"
        for case in (
            "tensors missing",
            "no tensors at all",
            "progress not UTF-8",
            "a bit in the list",
            "tensors empty",
            "an empty list",
            "another step",
            "no list",
            "the progress of before",
            "rows left out",
        )  # fmt: skip
    ),
    "tests/hostile/test_steps.py::test_the_old_or_the_new_is_whole[orbax]",
    "tests/hostile/test_mutations.py::test_500_changes[weights]",
    "tests/parity/commands/test_run_command.py::test_a_reader_that_goes_away_leaves_the_report",
    "tests/parity/commands/test_train_command.py::"
    "test_an_interruption_gets_one_line[train_torch.py]",
    *(
        "tests/parity/commands/test_train_command.py::"
        f"test_bad_input_gets_one_line_and_exits_with_2[{case}-train_torch.py]"
        for case in ("arguments7-tf32: a CPU has none", "arguments6---device tpu")
    ),
}
