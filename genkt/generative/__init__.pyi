"""What ``from genkt.generative import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .completer import (
    Completion as Completion,
    CompletionOptions as CompletionOptions,
    ImageCompleter as ImageCompleter,
    TokenCompleter as TokenCompleter,
)
from .convert import (
    convert as convert,
)
from .deep_inversion import (
    DeepInversionSettings as DeepInversionSettings,
    invert as invert,
)
from .generator import (
    Generator as Generator,
    load_generator as load_generator,
)
from .inpainting import (
    Inpainter as Inpainter,
)
from .latent_transformer import (
    LatentTransformer as LatentTransformer,
    TransformerConfig as TransformerConfig,
)
from .mask_steps import (
    MaskSchedule as MaskSchedule,
)
from .masked import (
    MaskedTransformer as MaskedTransformer,
)
from .masks import (
    MaskSettings as MaskSettings,
    draw_mask as draw_mask,
)
from .perceptual import (
    Lpips as Lpips,
    TeacherFeatures as TeacherFeatures,
)
from .vqgan import (
    VQGAN as VQGAN,
)
