"""Every method there is: one record each, from which the command line and the documentation are made."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any, Literal, get_args

from graphssl.errors import ConfigError

Family = Literal["predictive", "generative", "contrastive", "clustering", "distillation", "decorrelation", "meta", "supervised", "study"]


@dataclass(frozen=True)
class Method:
    """What a method is and where to find it.

    Attributes:
        name: Name.
        family: What trains: `predictive` (tell what was done, or what comes), `generative` (fill in or restore), `contrastive`, `clustering`,
            `distillation` (agree with a slow copy, or between two forms of the data), `decorrelation`, `meta` (differentiated through a step),
            `supervised`, or nothing new (`study`: a design that compares others).
        dimensions: What it works on: `2D`, `3D`, `clips`, `graph` (connectomes), `population`, `table`, `time`.
        inputs: What it needs.
        source: Who published it, and where.
        config: A configuration that runs it, relative to the repository.
        page: Its page, relative to `docs`.
        reconstruction: What in it is ours and not the publication's, in brief; the page says more.
        number: Number in the list of publications that the package set out to build, or None.
        test: The file that tests it first of all, relative to the repository.
        result: The section of `docs/reference/results.md` that has its numbers, by its anchor; None of what has not been measured.
        outcome: What came out, in a line; empty where there is no result.
    """

    name: str
    family: Family
    dimensions: tuple[str, ...]
    inputs: str
    source: str
    config: str
    page: str
    reconstruction: str
    number: int | None = None
    _: KW_ONLY
    test: str
    result: str | None = None
    outcome: str = ""


def methods(family: str | None = None) -> tuple[Method, ...]:
    """All methods, or those of a family, the numbered ones first.

    Raises:
        ConfigError: If there is no such family.
    """
    if family is not None and family not in get_args(Family):
        raise ConfigError(f"Expected a family among {', '.join(get_args(Family))}; found {family!r}.")
    chosen = [method for method in METHODS if family in (None, method.family)]
    return tuple(sorted(chosen, key=lambda method: (method.number is None, method.number or 0)))


def as_records(chosen: Iterable[Method]) -> list[dict[str, Any]]:
    """Methods as plain values, for JSON."""
    return [{**asdict(method), "dimensions": list(method.dimensions)} for method in chosen]


def as_text(chosen: Iterable[Method]) -> str:
    """Methods in aligned columns, a line each, and below it what each needs, what in it is a reconstruction, and what was found."""
    shown = list(chosen)
    rows = [(method.name, method.family, " ".join(method.dimensions), method.config) for method in shown]
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
    lines = []
    for method, row in zip(shown, rows, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += [f"    needs {method.inputs}", f"    from {method.source}", f"    ours: {method.reconstruction}"]
        lines += [f"    found: {method.outcome or 'not measured yet'}"]
    return "\n".join(lines)


def as_markdown(chosen: Iterable[Method]) -> str:
    """Methods as a table, for the documentation."""
    head = "| | method | family | works on | needs | source | configuration | ours |\n|---|---|---|---|---|---|---|---|"
    rows = [
        f"| {method.number or ''} | [{method.name}](../{method.page}) | {method.family} | {', '.join(method.dimensions)} | {method.inputs} "
        f"| {method.source} | `{method.config}` | {method.reconstruction} |"
        for method in chosen
    ]
    return "\n".join([head, *rows])


def results_as_markdown(chosen: Iterable[Method]) -> str:
    """What was found with each method, its test and its configuration, as a table for the documentation."""
    head = "| | method | configuration | test | what came out |\n|---|---|---|---|---|"
    rows = [
        f"| {method.number or ''} | [{method.name}](../{method.page}) | `{method.config}` | `{method.test}` | {_outcome(method)} |"
        for method in chosen
    ]
    return "\n".join([head, *rows])


def outcomes_as_markdown(page: str) -> str:
    """What came out of the methods of a page, as its section of the documentation.

    Args:
        page: The page, relative to `docs`.
    """
    lines = [f"- **{method.name}** (`{method.config}`): {_outcome(method, '../reference/')}." for method in METHODS if method.page == page]
    return "\n".join(["## What came out", "", *lines])


def _outcome(method: Method, folder: str = "") -> str:
    if method.result is None:
        return "not measured yet"
    return f"{method.outcome} ([numbers]({folder}results.md#{method.result}))"


_IMAGES = ("2D", "3D", "clips")

METHODS: tuple[Method, ...] = (
    Method(
        "Four questions about self-supervision",
        "study",
        (*_IMAGES, "graph", "population"),
        "a labelled cohort",
        "Zhang, Zheng & Gu, 2022, arXiv 2209.12157",
        "configs/studies/four_questions.yaml",
        "methods/four-questions.md",
        "sizes; connectomes and populations",
        8,
        test="tests/test_configs.py",
        result="four-questions",
        outcome="one class rare: resampling helps images, pre-training is not shown to; ABIDE: 0.724 AUROC, scratch 0.718 (open)",
    ),
    Method(
        "Four methods on tissue (pathology benchmark)",
        "study",
        ("2D",),
        "tiles of tissue, some with labels",
        "Kang et al., CVPR 2023, arXiv 2212.04690",
        "configs/studies/pathology.yaml",
        "methods/pathology.md",
        "sizes and numbers of views: the publication has weights and no training code",
        10,
        test="tests/views/test_stain.py",
        result="pathology-simulated-tissue",
        outcome="simulated tissue, probe: Barlow Twins 0.933 AUROC, scratch 0.754; ten real pictures, each held out: nothing above chance",
    ),
    Method(
        "Scale of pre-training and few-shot transfer",
        "study",
        (*_IMAGES, "graph", "table"),
        "a source, with labels or without, and a labelled cohort",
        "Cherti & Jitsev, IJCNN 2022, arXiv 2106.00116",
        "configs/studies/scale.yaml",
        "methods/scale.md",
        "small sources and networks; a share of the rule's steps; connectomes and tables",
        12,
        test="tests/statistics/test_power_law.py",
        result="scale-breastmnist-pre-trained-on-x-rays-or-on-itself",
        outcome="breast ultrasound: its own images help a little (0.748 AUROC, scratch 0.721); "
        "larger foreign sources, and any on ABIDE, are not shown to",
    ),
    Method(
        "Families of self-supervision on images (survey)",
        "study",
        _IMAGES,
        "labelled images",
        "Shurrab & Duwairi, PeerJ Computer Science 2022",
        "configs/studies/families.yaml",
        "methods/taxonomy.md",
        "the grouping follows the survey as it is commonly cited; one task of each family in its study",
        15,
        test="tests/test_configs.py",
        result="one-task-of-each-family-breastmnist",
        outcome="breast ultrasound, probe: contrast 0.842 AUROC, SwAV 0.811, random weights 0.779, relative position 0.759",
    ),
    Method(
        "Where to start, and how fast it converges",
        "study",
        (*_IMAGES, "graph"),
        "masks or labels, and a source",
        "Kalapos & Gyires-Tóth, ECCV Workshops 2022, arXiv 2209.00314",
        "configs/studies/convergence.yaml",
        "methods/convergence.md",
        "restoration in place of BYOL, volumes in place of slices, medical images in place of ImageNet; connectomes",
        18,
        test="tests/statistics/test_convergence.py",
        result="convergence-hippocampus-masks-and-simulated-connectomes",
        outcome="hippocampus, a tenth of the masks: 0.768 to 0.777 Dice from every start, none shown to be faster",
    ),
    Method(
        "Hyper-initialiser",
        "meta",
        ("2D", "3D", "graph", "table"),
        "images, with or without labels; then any network",
        "Shang et al., 2022, arXiv 2206.03661; Knyazev et al., NeurIPS 2021 and ICML 2023",
        "configs/methods/hyper_initializer.yaml",
        "methods/hyper-initializer.md",
        "the mechanism is that of GHN-2 and GHN-3; graphs from torch.fx; learning without labels; kernels of volumes",
        1,
        test="tests/initializers/test_hyper_initializer.py",
        result="hyper-initialiser-networks-never-seen-on-breast-ultrasound-chest-x-ray-and-hippocampus",
        outcome="a head start on chest X-rays, gone after five epochs; a lasting one on masks of the hippocampus; none on breast ultrasound",
    ),
    Method(
        "UniMiSS: one transformer for images and volumes",
        "distillation",
        ("2D", "3D"),
        "images and volumes of any patients, without labels",
        "Xie et al., ECCV 2022, arXiv 2112.09356",
        "configs/methods/unimiss.yaml",
        "methods/unimiss.md",
        "images and volumes in one epoch; the centre moves once a step; schedules",
        2,
        test="tests/objectives/test_slice_volume.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="adrenal glands: 0.661 AUROC, random weights 0.617, above them in every seed",
    ),
    Method(
        "CSPR: 2D labels pre-train a 3D network",
        "supervised",
        ("3D",),
        "labelled 2D images, then volumes",
        "Zhang et al., 2022, arXiv 2201.01426",
        "configs/methods/cspr.yaml",
        "methods/cspr.md",
        "sizes; slices of several contrasts for gray images",
        3,
        test="tests/objectives/test_predict_label.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="chest X-rays, then adrenal glands: 0.780 AUROC, random weights 0.709, above them in every seed",
    ),
    Method(
        "Swin UNETR's pre-training",
        "generative",
        _IMAGES,
        "images, without labels",
        "Tang et al., CVPR 2022",
        "configs/methods/swin_unetr.yaml",
        "methods/swin-unetr.md",
        "all boxes filled at once; noise in the range of the image; sizes",
        4,
        test="tests/objectives/test_inpaint_rotate_contrast.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="adrenal glands: 0.804 AUROC with all labels (random weights 0.765), 0.686 with a tenth (0.695), where nothing is shown",
    ),
    Method(
        "Contrast and online clustering over mixed modalities",
        "clustering",
        ("2D", "3D"),
        "images of one or several modalities, without labels",
        "Ghesu et al., 2022, arXiv 2201.01283",
        "configs/methods/online_clustering.yaml",
        "methods/online-clustering.md",
        "minibatches by modality and bands of frequencies are from secondary sources; numbers",
        5,
        test="tests/objectives/test_clustering.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.814 AUROC with X-rays beside it, 0.797 without, random weights 0.720; more steps may be all the X-rays bring",
    ),
    Method(
        "Labels and self-supervision together",
        "supervised",
        (*_IMAGES, "graph", "table", "time"),
        "some labels",
        "Ghesu et al., 2022, arXiv 2201.01283",
        "configs/objectives/hybrid.yaml",
        "methods/hybrid.md",
        "the schedule of the weight",
        5,
        test="tests/objectives/test_hybrid.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.829 AUROC, labels alone 0.854: does not pay there",
    ),
    Method(
        "Meta-USCL: learned weights of pairs",
        "meta",
        ("clips", "3D"),
        "clips or volumes, without labels",
        "Chen et al., IEEE TMI 2022",
        "configs/methods/meta_uscl.yaml",
        "methods/meta-uscl.md",
        "clean pairs from the minibatch; a tried step without momentum",
        6,
        test="tests/training/meta/test_sample_weights.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="44 clips of lungs: 0.929 AUROC, contrast without weights 0.924, random weights 0.909: nothing is shown",
    ),
    Method(
        "Joint image and volume learning, clusters within and between",
        "clustering",
        ("3D",),
        "volumes, without labels",
        "Nguyen et al., AAAI 2023, arXiv 2212.01893",
        "configs/methods/image_volume.yaml",
        "methods/image-volume.md",
        "views of the first stage; a projector before the clusters",
        7,
        test="tests/objectives/test_masked_slices.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="adrenal glands: 0.652 AUROC with a tenth of the labels (random weights 0.625), 0.718 with all (0.748), where it harms",
    ),
    Method(
        "Meta-learning across datasets",
        "meta",
        ("graph", "table", "time", "population"),
        "several cohorts with labels, and a small one",
        "Yang et al., KDD 2022",
        "configs/methods/connectome_meta.yaml",
        "methods/meta-learning.md",
        "steps are gradients and not their signs; second order; rates through any encoder",
        9,
        test="tests/training/meta/test_meta_train.py",
        result="attempts-2-and-3-a-linear-encoder-everything-chosen-on-sources",
        outcome="small sites of ABIDE, ten labels a class, three atlases: 0.727 AUROC, direct learning 0.680, a ridge on sources and target 0.730",
    ),
    Method(
        "Consecutive pre-training",
        "generative",
        (*_IMAGES, "graph", "population", "table", "time"),
        "cohorts from the general to the task's, without labels",
        "Zhang et al., Remote Sensing 2022, arXiv 2207.03860",
        "configs/methods/consecutive.yaml",
        "methods/consecutive-pretraining.md",
        "any objective and encoder; more than two stages; probes, anchor and records; sizes",
        13,
        test="tests/training/test_stages.py",
        result="consecutive-pre-training-general-domain-and-task-images-in-equal-steps",
        outcome="breast ultrasound, equal steps: the chain 0.757 AUROC, the task's own images alone 0.835, random weights 0.800: does not pay there",
    ),
    Method(
        "Contrastive texture learning",
        "contrastive",
        _IMAGES,
        "images, without labels",
        "Chen, Wang & Ma, 2022, arXiv 2108.05081",
        "configs/methods/texture.yaml",
        "methods/texture.md",
        "network, descriptors, views and voting: the publication has abstracts and no code",
        14,
        test="tests/encoders/images/test_texture.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.845 AUROC with all labels (random weights 0.786), 0.713 with a tenth (0.656), above them in every seed",
    ),
    Method(
        "Segmentation on any encoder",
        "supervised",
        ("2D", "3D"),
        "images and masks",
        "Wang et al., IET Image Processing 2022 (survey)",
        "configs/methods/segmentation.yaml",
        "methods/segmentation.md",
        "nothing: parts are MONAI's",
        16,
        test="tests/training/test_segment.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="hippocampus, a tenth of the masks: 0.777 Dice after restoration, random weights 0.770: nothing is shown",
    ),
    Method(
        "Population graphs, masked columns",
        "generative",
        ("population", "table", "time"),
        "a table or events, without labels",
        "Pellegrini, Navab & Kazi, Medical Image Analysis 2023",
        "configs/population/physionet2012_graph.yaml",
        "methods/population-transformer.md",
        "inductive neighbours, sampled neighbourhoods, any encoder of a patient alone",
        17,
        test="tests/encoders/test_population_transformer.py",
        result="physionet-2012-death-in-hospital-the-five-published-splits",
        outcome="PhysioNet 2012, four of five splits: 0.866 AUROC, the same without the graph 0.864, boosting 0.875: the graph is not shown to help",
    ),
    Method(
        "BYOL in 3D with large minibatches",
        "distillation",
        ("3D", "clips"),
        "volumes or clips, without labels",
        "Manna et al., 2022, arXiv 2208.00444",
        "configs/methods/byol_3d.yaml",
        "methods/byol-3d.md",
        "exact gradients from kept embeddings in place of accumulated ones",
        19,
        test="tests/training/test_accumulation.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="44 clips of lungs: 0.892 AUROC, random weights 0.901; adrenal glands: 0.579, random weights 0.599: nothing is shown",
    ),
    Method(
        "DVME: attention over several encoders",
        "supervised",
        (*_IMAGES, "graph", "table", "time"),
        "embeddings of one patient by several encoders, some missing",
        "Truong et al., ML4H 2021, arXiv 2108.10048",
        "configs/methods/dvme.yaml",
        "methods/dvme.md",
        "no code was released: blocks as in vision transformers; a learned vector for what is missing; any encoders",
        11,
        test="tests/encoders/test_fusion.py",
        result="several-modalities-of-a-patient-together-and-when-one-is-missing",
        outcome="hippocampus, lungs, ABIDE: 0.579, 0.723, 0.563 AUROC, the best single source 0.606, 0.944, 0.582: not shown to help",
    ),
    Method(
        "Fusion of several modalities (FiLM, DAFT, TIP's interaction, gates, low rank)",
        "supervised",
        (*_IMAGES, "graph", "table", "time"),
        "any mix of modalities of a patient, some missing",
        "Perez et al., AAAI 2018; Wolf et al., NeuroImage 2022; Du et al., ECCV 2024; Arevalo et al., 2017; Liu et al., ACL 2018",
        "configs/methods/multimodal.yaml",
        "methods/multimodal.md",
        "modulation after the encoder; a vector beside each modality's tokens; sizes",
        test="tests/encoders/test_fusion.py",
        result="several-modalities-of-a-patient-together-and-when-one-is-missing",
        outcome="no fusion is shown to add to the best single modality on three cohorts",
    ),
    Method(
        "Masked patches (masked autoencoder)",
        "generative",
        _IMAGES,
        "images, without labels",
        "He et al., CVPR 2022",
        "configs/objectives/masked_patches.yaml",
        "methods/masked-patches.md",
        "sizes",
        test="tests/objectives/test_masked_patches.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.697 AUROC with a tenth of the labels (random weights 0.627), 0.808 with all (0.818)",
    ),
    Method(
        "Restoration (Models Genesis)",
        "generative",
        _IMAGES,
        "images, without labels",
        "Zhou et al., MICCAI 2019",
        "configs/objectives/restoration.yaml",
        "methods/restoration.md",
        "forty windows of shuffling; boxes inside and outside drawn independently",
        8,
        test="tests/objectives/test_restoration.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.790 AUROC with all labels (random weights 0.720); nothing is shown with a tenth",
    ),
    Method(
        "Relative position",
        "predictive",
        _IMAGES,
        "images, without labels",
        "Doersch et al., ICCV 2015; Taleb et al., NeurIPS 2020",
        "configs/objectives/relative_position.yaml",
        "methods/relative-position.md",
        "sizes and jitter",
        8,
        test="tests/objectives/test_relative_position.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.685 AUROC with a tenth of the labels (random weights 0.652); nothing is shown with all",
    ),
    Method(
        "Jigsaw, Rubik's cube and Rubik's cube+",
        "predictive",
        _IMAGES,
        "images, without labels",
        "Noroozi & Favaro, ECCV 2016; Zhuang et al., MICCAI 2019; Zhu et al., Medical Image Analysis 2020",
        "configs/objectives/jigsaw.yaml",
        "methods/jigsaw.md",
        "half turns in 2D; orders of more than eight cells; sizes",
        8,
        test="tests/objectives/test_jigsaw.py",
        result="images-pretext-tasks-and-learned-weights-of-pairs",
        outcome="breast ultrasound: 0.756 AUROC with all labels (random weights 0.720); nothing is shown with a tenth",
    ),
    Method(
        "Momentum contrast (MoCo)",
        "contrastive",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "He et al., CVPR 2020; Chen et al., arXiv 2003.04297",
        "configs/objectives/moco.yaml",
        "methods/moco.md",
        "keys of the same subject are left out; batch normalisation of the projector; views and sizes",
        10,
        test="tests/objectives/test_momentum_contrast.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.738 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "DeepCluster with a memory",
        "clustering",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Caron et al., NeurIPS 2020; Nguyen et al., AAAI 2023",
        "configs/objectives/deep_cluster.yaml",
        "methods/deep-cluster.md",
        "the memory is filled by the first epoch; views and sizes",
        test="tests/objectives/test_deep_cluster.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.757 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Contrast of two views (NT-Xent)",
        "contrastive",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Chen et al., ICML 2020",
        "configs/objectives/image_ntxent.yaml",
        "methods/ntxent.md",
        "views; rows of one subject are neither sought nor shunned",
        test="tests/objectives/test_contrastive.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.772 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Barlow Twins",
        "decorrelation",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Zbontar et al., ICML 2021",
        "configs/objectives/barlow_twins.yaml",
        "methods/barlow-twins.md",
        "the sum divided by the width; views and sizes",
        10,
        test="tests/objectives/test_redundancy.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.746 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Clustering of two views (SwAV)",
        "clustering",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Caron et al., NeurIPS 2020",
        "configs/objectives/swav.yaml",
        "methods/swav.md",
        "prototypes normalised when used; schedules in shares of the training; views and sizes",
        10,
        test="tests/objectives/test_clustering.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.751 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Self-distillation (BYOL)",
        "distillation",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Grill et al., NeurIPS 2020",
        "configs/objectives/byol.yaml",
        "methods/self-distillation.md",
        "views, sizes and momentum",
        test="tests/objectives/test_distillation.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.768 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Self-distillation (DINO)",
        "distillation",
        (*_IMAGES, "graph", "table", "time"),
        "any data, without labels",
        "Caron et al., ICCV 2021",
        "configs/objectives/dino.yaml",
        "methods/self-distillation.md",
        "views, sizes and momentum",
        10,
        test="tests/objectives/test_distillation.py",
        result="breastmnist-benign-or-malignant-the-official-split-objectives-on-images",
        outcome="breast ultrasound: 0.745 AUROC (random weights 0.709), regression on pixels 0.828",
    ),
    Method(
        "Masked regions",
        "generative",
        ("graph",),
        "connectomes, without labels",
        "Hou et al., KDD 2022; Yang et al., 2024",
        "configs/objectives/masked_regions.yaml",
        "methods/masked-regions.md",
        "the connection as what is predicted; a decoder from the pooled vector",
        test="tests/objectives/test_masked.py",
        result="attempt-3-the-same-three-seeds-in-full",
        outcome="ABIDE, held-out sites: 0.681 AUROC, random weights 0.651 (difference -0.021 to +0.080), a ridge on connections 0.750",
    ),
    Method(
        "Masked connections",
        "generative",
        ("graph",),
        "connectomes, without labels",
        "Li et al., KDD 2023",
        "configs/objectives/masked_connections.yaml",
        "methods/masked-connections.md",
        "weighted dense graphs in place of sparse ones",
        test="tests/objectives/test_masked.py",
    ),
    Method(
        "Scan contrast (closed form)",
        "contrastive",
        ("graph",),
        "time series of regions, without labels",
        "Hatch, Kajarekar & Stolcke, Interspeech 2006",
        "configs/abide/multi_atlas.yaml",
        "methods/scan-contrast.md",
        "halves of a scan take the place of utterances of a speaker; blocks of equal length; the order of steps",
        test="tests/graphs/test_contrast.py",
        result="attempt-7-linear-pre-training-over-two-atlases-and-two-kinds-of-connectivity-in-the-library-by-label-fraction",
        outcome="ABIDE, held-out sites: 0.779 AUROC, a ridge on the same connections 0.768 (difference -0.005 to +0.028)",
    ),
    Method(
        "Near and far regions (Jensen–Shannon)",
        "contrastive",
        ("graph",),
        "connectomes, without labels",
        "Yang et al., CHIL 2023; Nowozin et al., NeurIPS 2016",
        "configs/objectives/jensen_shannon.yaml",
        "methods/jensen-shannon.md",
        "which entries of a matrix are edges; all pairs of connectomes in one mean",
        test="tests/objectives/test_jensen_shannon.py",
    ),
    Method(
        "Alignment of atlases",
        "contrastive",
        ("graph",),
        "connectomes in two or more atlases, without labels",
        "Tian et al., ECCV 2020; Radford et al., ICML 2021",
        "configs/objectives/atlas_alignment.yaml",
        "methods/atlas-alignment.md",
        "atlases take the place of modalities",
        test="tests/objectives/test_alignment.py",
        result="site-adversary-and-alignment-of-two-atlases",
        outcome="simulated connectomes: 0.642 AUROC with a tenth of the labels, random weights 0.619, above them in every seed",
    ),
    Method(
        "Corrupted columns (SCARF)",
        "contrastive",
        ("table",),
        "a table, without labels",
        "Bahri et al., ICLR 2022",
        "configs/objectives/scarf.yaml",
        "methods/scarf.md",
        "values are drawn from the minibatch; batch normalisation of the projector",
        test="tests/objectives/test_scarf.py",
        result="two-objectives-on-a-network-without-attention",
        outcome="heart disease, four hospitals: 0.778 AUROC with a tenth of the labels, random weights 0.739 (difference -0.076 to +0.154)",
    ),
    Method(
        "Masked time and treatments",
        "generative",
        ("time",),
        "events in time, without labels",
        "Pellegrini, Navab & Kazi, Medical Image Analysis 2023",
        "configs/objectives/timeline_tasks.yaml",
        "methods/timeline-transformer.md",
        "masks of what was measured; normal scores; the second decoder",
        test="tests/objectives/test_masked_timeline.py",
    ),
    Method(
        "Masked events",
        "generative",
        ("time",),
        "single events, without labels",
        "Tipirneni & Reddy, ACM TKDD 2022",
        "configs/population/physionet2012_events.yaml",
        "methods/event-transformer.md",
        "numbers of events are predicted in place of a forecast; the token of the patient",
        test="tests/objectives/test_masked_events.py",
    ),
    Method(
        "Contrast of image and table (MMCL)",
        "contrastive",
        ("2D", "3D", "clips", "graph", "table", "time"),
        "patients with two kinds of data, some missing, without labels",
        "Hager, Menten & Rueckert, CVPR 2023",
        "configs/objectives/cross_modal.yaml",
        "methods/cross-modal.md",
        "any two modalities; values are drawn from the minibatch; sizes",
        test="tests/objectives/test_cross_modal_contrast.py",
        result="objectives-across-modalities",
        outcome="simulated patients: 0.707 AUROC, random weights 0.704: nothing is shown",
    ),
    Method(
        "Contrast of modalities, neighbours in part",
        "contrastive",
        ("2D", "3D", "clips", "graph", "population", "table", "time"),
        "patients with two kinds of data, some missing, and columns or a population to compare them by",
        "after Hager, Menten & Rueckert, CVPR 2023",
        "configs/objectives/cross_modal_neighbors.yaml",
        "methods/cross-modal.md",
        "the target, a softmax over similarities of neighbours",
        test="tests/objectives/test_cross_modal_neighbors.py",
    ),
    Method(
        "Concepts in common (MedCLIP)",
        "contrastive",
        ("2D", "3D", "clips", "graph", "table", "time"),
        "images and tables, pairs or not, and columns that hold concepts",
        "Wang, Wu, Agarwal & Sun, EMNLP 2022",
        "configs/objectives/concept_contrast.yaml",
        "methods/concept-contrast.md",
        "columns in place of findings in reports; tables corrupted, once",
        test="tests/objectives/test_cross_modal_concepts.py",
    ),
    Method(
        "Contrast, matching and masked columns (TIP)",
        "contrastive",
        ("2D", "3D", "clips", "graph", "table"),
        "images and tables with gaps, without labels",
        "Du et al., ECCV 2024",
        "configs/objectives/tip.yaml",
        "methods/tip.md",
        "errors in units of guessing; hidden columns attend; sizes",
        test="tests/objectives/test_cross_modal_matching.py",
    ),
    Method(
        "Masked modality",
        "contrastive",
        ("2D", "3D", "clips", "graph", "population", "table", "time"),
        "patients with two kinds of data or more, some missing, without labels",
        "the loss of van den Oord, Li & Vinyals, 2018",
        "configs/objectives/masked_modality.yaml",
        "methods/masked-modality.md",
        "all but the loss",
        test="tests/objectives/test_masked_modality.py",
        result="objectives-across-modalities",
        outcome="simulated patients: 0.715 AUROC, random weights 0.704: nothing is shown",
    ),
    Method(
        "Retrieval-based selection of a pool (SEPT)",
        "contrastive",
        (*_IMAGES, "graph", "population", "table", "time"),
        "a large pool without labels, and a few subjects of the target",
        "Lin et al., AAAI 2023, arXiv 2212.05473",
        "configs/methods/retrieval_selection.yaml",
        "methods/retrieval-selection.md",
        "rules of choice and their order; units of the vectors; near duplicates, protection of test subjects, balance",
        20,
        test="tests/training/test_selection.py",
        result="chosen-data-nearest-random-and-all-of-a-mixed-pool-of-images",
        outcome="breast ultrasound, a tenth of the pool: nearest 0.735 AUROC, random 0.754; of the right modality, and no better",
    ),
)
