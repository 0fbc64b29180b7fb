"""Where Python waits for the device and cannot do otherwise, and why.

tests/repository/test_device.py fails for any other place, and for one of these that is no longer
there.

A wait costs what the device could have done meanwhile: nothing to speak of where a job begins, much
in every step. So what does not belong to the first group needs a good reason.
"""

from __future__ import annotations

from fake_cuda import Wait

TO_CPU, TO_DEVICE, BY_CPU = "copy to the CPU", "copy to the device", "index on the CPU"

ONCE = {
    Wait("data/transform.py:_constants", TO_DEVICE): "mean and std of a transform; kept",
    Wait("generative/decoding/decoder.py:Decoder.slack", TO_DEVICE): "measured once a network",
    Wait("generative/decoding/decoder.py:Decoder.slack", "item"): "measured once a network",
    Wait("generative/generator.py:Generator.to", TO_DEVICE): "the networks themselves",
    Wait("io.py:fingerprint_tensors", TO_CPU): "weights are hashed on the CPU",
    Wait("methods/contrastive_distillation.py:Negatives.draw", "item"): (
        "the counter of a training that goes on; counted in Python from then on"
    ),
    Wait("metrics/logme.py:_check", "index"): "which labels are wrong",
    Wait("metrics/logme.py:_check", "item"): "whether labels are wrong, features finite",
    Wait("metrics/logme.py:_fit", TO_CPU): "evidence is computed in float64 on the CPU",
    Wait("metrics/logme.py:logme", TO_CPU): "evidence is computed in float64 on the CPU",
    Wait("models/backbone.py:Backbone.forward", "item"): (
        "torch's batch norm, where it averages over all batches: for a soup's statistics alone"
    ),
    Wait("upstream/generator/train_transformer.py:TransformerTraining.__init__", TO_DEVICE): (
        "the network itself"
    ),
    Wait("upstream/generator/train_vqgan.py:VQGANTraining.__init__", TO_DEVICE): (
        "the networks themselves"
    ),
    Wait("training/checkpoint.py:save_weights", TO_CPU): "what is written",
    Wait("training/loop.py:_Run.__init__", TO_DEVICE): "the networks themselves",
    Wait("training/loop.py:_Run._finish", TO_DEVICE): "the best weights, from their file",
    Wait("training/store_job.py:StoreJob.outputs", TO_DEVICE): "the network itself",
}
"""Where a job begins or ends."""

A_CALL = {
    Wait("generative/decoding/sampling.py:_Draws.__init__", TO_DEVICE): "the places to fill",
    Wait("generative/decoding/sampling.py:_check_values", "index"): "which values are wrong",
    Wait("generative/decoding/sampling.py:_check_values", "item"): "whether values are wrong",
    Wait("generative/decoding/sampling.py:complete_sequences", "item"): "the places to fill",
    Wait("generative/decoding/sampling.py:complete_sequences", "nonzero"): "the places to fill",
    Wait("generative/deep_inversion.py:_invert_batch", TO_CPU): "the pictures",
    Wait("generative/deep_inversion.py:_invert_batch", TO_DEVICE): "noise and labels",
    Wait("generative/deep_inversion.py:_require_finite", "item"): "50 losses at a time",
    Wait("generative/generator.py:Generator.complete_images", TO_CPU): "the pictures",
    Wait("generative/generator.py:Generator.visible_tokens", TO_CPU): (
        "the order of the tokens is chosen by the masks, which are on the CPU"
    ),
    Wait("generative/latent_transformer.py:LatentTransformer.complete", TO_DEVICE): "the tokens",
    Wait("generative/masked.py:MaskedTransformer._check", "index"): "which tokens are wrong",
    Wait("generative/masked.py:MaskedTransformer._fill", "item"): "how many tokens are hidden",
    Wait("generative/masked.py:MaskedTransformer._fill", TO_DEVICE): "the uniform numbers",
    Wait("generative/vqgan.py:VQGAN._decode_together", TO_DEVICE): (
        "diffusers: a loss of 0 for every picture, which nobody reads"
    ),
    Wait("generative/vqgan.py:VQGAN._encode_together", TO_DEVICE): "the pictures",
    Wait("generative/vqgan.py:VQGAN._encode_together", "item"): "whether a token is doubtful",
    Wait("generative/vqgan.py:VQGAN._encode_together", "index"): "doubtful pictures, again",
    Wait("generative/vqgan.py:VQGAN._encode_together", "index_put_"): "doubtful pictures, again",
    Wait("generative/vqgan.py:VQGAN.decode", "item"): "whether tokens are wrong",
    Wait("losses/vq.py:codebook_perplexity", "item"): "whether there is anything counted",
    Wait("retrieval/encoders.py:BackboneEncoder.encode", TO_CPU): "the features",
    Wait("retrieval/encoders.py:BackboneEncoder.encode", TO_DEVICE): "the pictures",
    Wait("synthesis/filter_images.py:judge", TO_CPU): "the answers",
    Wait("synthesis/filter_images.py:judge", TO_DEVICE): "the pictures",
    Wait("training/loop.py:_Run._check", TO_CPU): "up to 100 losses at a time",
    Wait("training/loop.py:_Run._check_weights", "item"): "before weights are judged or written",
    Wait("training/predictions.py:outputs", TO_CPU): "the answers on a batch",
    Wait("training/predictions.py:predict", TO_CPU): "the answers on a batch",
    Wait("training/store_job.py:_OnItsWay.arrived", "event"): "while the next batch is computed",
}
"""Once for each call, whose result Python needs, or for each batch of pictures."""

A_STEP = {
    Wait("generative/decoding/sampling.py:_Draws.fill", "nonzero"): (
        "rows whose float32 decision an error could change are decided again"
    ),
    Wait("generative/mask_steps.py:MaskStep.outcome", "nonzero"): "the tokens that are unknown",
    Wait("generative/masked.py:MaskedTransformer._advance", "nonzero"): "rows to decide again",
    Wait("generative/masked.py:MaskedTransformer._advance", "item"): "rows to decide again",
    Wait("generative/latent_transformer.py:LatentTransformer.conditions_of", "item"): (
        "whether a picture has no class"
    ),
    Wait("generative/latent_transformer.py:LatentTransformer.start_tokens", "item"): (
        "whether classes are wrong"
    ),
    Wait("training/averages.py:average_lists", "item"): (
        "torch's AveragedModel keeps its counter on the CPU and gives it on the device"
    ),
    Wait("upstream/generator/train_transformer.py:TransformerTraining.run_step", TO_DEVICE): (
        "torch's AveragedModel keeps its counter on the CPU and gives it on the device"
    ),
    Wait("upstream/generator/train_transformer.py:TransformerTraining.run_step", "item"): (
        "the loss of a step, which priming looks at"
    ),
    Wait("upstream/generator/train_vqgan.py:_measured", "item"): (
        "the losses of a step, which priming looks at"
    ),
    Wait("upstream/generator/train_vqgan.py:VQGANTraining._quantise", TO_DEVICE): (
        "vector-quantize-pytorch"
    ),
    Wait("upstream/generator/train_vqgan.py:VQGANTraining._quantise", "item"): (
        "vector-quantize-pytorch: whether codes are dead"
    ),
    Wait("upstream/generator/train_vqgan.py:VQGANTraining.run_step", TO_DEVICE): (
        "diffusers: a loss of 0 for every picture, which nobody reads"
    ),
    Wait("methods/aft.py:AFT._features", "nonzero"): (
        "kernel_rows=labelled alone: how many rows have labels decides the size of the kernels"
    ),
    Wait("methods/self_supervised.py:SimCLR.loss", "index"): "lightly: all pairs but the diagonal",
}
"""In every step of a training or of parallel decoding, or for every token."""

KNOWN = ONCE | A_CALL | A_STEP
