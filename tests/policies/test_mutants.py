"""Bugs that other libraries had, planted one by one: each must be reported by the check that is meant for it."""

import functools

import pytest

from openmixup.testing import CHECKS, PolicyCheckError, check_policy
from tests.policies.mutants import of_networks, of_pixels

MUTANTS = {
    of_pixels.ProbabilityTwice: 'mixes_at_its_rate',
    of_pixels.HiddenUnmixedRate: 'mixes_at_its_rate',
    functools.partial(of_pixels.SwappedProbs, probs=(0.2, 0.8)): 'members_are_chosen_by_their_probs',
    functools.partial(of_pixels.SharedPlacement, per='sample'): 'per_means_what_it_says',
    functools.partial(of_pixels.SharedLam, per='sample'): 'per_means_what_it_says',
    of_pixels.InnerBox: 'every_pixel_has_its_turn',
    of_pixels.SwappedSides: 'every_pixel_has_its_turn',
    of_pixels.HalfThePicture: 'every_pixel_has_its_turn',
    of_pixels.InvertedLabel: 'label_equals_pixels',
    of_pixels.LamBeforeClipping: 'label_equals_pixels',
    of_pixels.TwoPartners: 'label_equals_pixels',
    of_pixels.TransposedMask: 'masks_equal_the_picture',
    of_pixels.WritesIntoInputs: 'inputs_are_not_touched',
    of_pixels.WritesBack: 'inputs_are_not_touched',
    of_pixels.TorchGlobal: 'draws_come_from_the_generator',
    of_pixels.PythonGlobal: 'draws_come_from_the_generator',
    of_pixels.HostRead: 'nothing_is_read_from_the_device',
    of_pixels.CopiedAlone: 'host_values_travel_together',
    of_pixels.ManyKernels: 'few_operators_are_launched',
    of_pixels.OneSidedBeta: 'lam_follows_its_law',
    of_pixels.OneSidedBetaBox: 'lam_follows_its_law',
    of_pixels.MixesInEval: 'eval_mode_never_mixes',
    of_pixels.ChangesType: 'dtype_is_kept',
    of_pixels.UnevenWeights: 'weights_are_sound',
    of_pixels.LabelsUnchecked: 'wrong_inputs_are_refused',
    of_pixels.ForgetsArgument: 'arguments_are_stored',
    of_pixels.Unpicklable: 'copies_are_equal',
    of_pixels.SideInsteadOfArea: 'weights_follow_lam',
    of_pixels.SwappedArea: 'weights_follow_lam',
    of_pixels.PairingIgnored: 'partners_follow_the_pairing',
    of_pixels.OnlyClassIndices: 'all_target_kinds_mix_alike',
    of_pixels.SameStreamEachCall: 'calls_without_a_generator_differ',
    of_pixels.SameStreamEachObject: 'calls_without_a_generator_differ',
    of_pixels.DrawnInverted: 'label_equals_pixels',
    of_pixels.ClampedPicture: 'identical_images_stay_identical',
    of_pixels.LoneImageFades: 'one_image_is_left_alone',
    of_pixels.ReadsMemoryInOrder: 'memory_layout_does_not_matter',
    of_pixels.SecondViewInverted: 'label_equals_pixels',
    of_pixels.SecondViewUneven: 'weights_are_sound',
    of_pixels.SecondViewChangesType: 'dtype_is_kept',
    of_pixels.FlippedDonor: 'pixels_stay_in_place',
    of_networks.LeavesEvalMode: 'a_look_leaves_no_trace',
    of_networks.LooksInTrainingMode: 'a_look_leaves_no_trace',
    of_networks.DropsOut: 'draws_come_from_the_generator',
    of_networks.ClearsGradients: 'a_look_leaves_no_trace',
    of_networks.LeavesHook: 'a_look_leaves_no_trace',
    of_networks.FinishLeavesEvalMode: 'a_look_leaves_no_trace',
    of_networks.ReadsAttention: 'nothing_is_read_from_the_device',
    of_networks.ReadsInFinish: 'nothing_is_read_from_the_device',
    of_networks.PermutedAfterwards: 'label_equals_pixels',
    of_networks.LearnedOfOthers: 'label_equals_pixels',
    of_networks.SwappedRegions: 'label_equals_pixels',
    of_networks.InvertedInFinish: 'label_equals_pixels',
    of_networks.UnevenInFinish: 'finish_is_sound',
    of_networks.WeightsWithGradient: 'finish_is_sound',
    of_networks.LosesView: 'finish_is_sound',
    of_networks.FromTheBatch: 'label_equals_pixels',
    of_networks.TapOfOthers: 'label_equals_pixels',
    of_networks.TapInPlace: 'inputs_are_not_touched',
    of_networks.TapInFloat: 'dtype_is_kept',
    of_networks.AutocastPicture: 'dtype_is_kept',
    of_networks.KernelsPerSample: 'few_operators_are_launched',
    of_networks.MixesWithoutNetwork: 'wrong_inputs_are_refused',
    of_networks.KeepsGraph: 'copies_are_equal',
    of_networks.GeneratorTrainsStudent: 'gradients_go_where_they_should',
    of_networks.TeacherGetsGradient: 'gradients_go_where_they_should',
    of_networks.StudentTrainsGenerator: 'gradients_go_where_they_should',
    of_networks.NeverTrained: 'gradients_go_where_they_should',
    of_networks.LossWithoutGradient: 'gradients_go_where_they_should',
    of_networks.BuiltAnew: 'binding_twice_keeps',
    of_networks.NotInState: 'state_can_be_loaded',
    of_networks.Counts: 'history_can_be_saved',
    of_networks.ForgetsHistory: 'history_can_be_saved',
    of_networks.ExemptFromNothing: 'it_is_documented',
}


def name_of(mutant):
    return getattr(mutant, 'func', mutant).__name__


@pytest.mark.parametrize('mutant', MUTANTS, ids=name_of)
def test_planted_bug_is_found(mutant):
    (result,) = check_policy(mutant(), only=[MUTANTS[mutant]])
    assert not result.ok
    assert 'it stopped with' not in result.message  # found by what it shows, not by accident


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_placement_check_sees_the_box_bug_in_both_modes(per):
    assert check_policy(of_pixels.SharedPlacement(per=per), only=['per_means_what_it_says'])[0].ok == (per == 'batch')


@pytest.mark.parametrize('check', CHECKS)
@pytest.mark.parametrize('policy', [of_pixels.TwoViews, of_networks.Attentive, of_networks.Generator])
def test_a_sound_policy_raises_no_false_alarm(policy, check):
    CHECKS[check](policy())


@pytest.mark.slow
@pytest.mark.parametrize('mutant', MUTANTS, ids=name_of)
def test_planted_bug_is_found_among_all_checks(mutant):
    with pytest.raises(PolicyCheckError, match=MUTANTS[mutant]):
        check_policy(mutant(), raise_on_failure=True)


def test_each_check_of_behaviour_has_a_mutant():
    without = {
        'arguments_have_defaults', 'repr_can_be_built_again',
    }  # fmt: skip
    assert set(CHECKS) - set(MUTANTS.values()) <= without
