"""Sources of synthetic images: a new one is a file here and a name in this union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.synthetic.folder import FolderConfig
from synthcl.method.synthetic.gan.settings import GanConfig

AnySource = Annotated[GanConfig | FolderConfig, Field(discriminator="kind"), kind_or("gan")]
