"""Rules that name the kind of a device by its evidence: data only, each group with its source.

A rule is here only if nearly every device with that evidence is of that kind. What many kinds share (`android-dhcp-`,
`udhcp`, `dhcpcd`, `_http._tcp`, `_ssh._tcp`, `_smb._tcp`, `_esphomelib._tcp`, a vendor of many products) has no rule:
then netscand says nothing. To add one: add real devices to tests/core/data/kinds.toml, too.

Each table is text, a kind and its evidence on each line, and is parsed when it is needed: all of them take 150 kB.
"""

from collections.abc import Iterator
from functools import cache

# ---- the kinds -----------------------------------------------------------------------------------------------------

KINDS = (
    "router", "access_point", "switch", "computer", "laptop", "server", "nas", "virtual_machine", "container", "phone",
    "tablet", "watch", "voip_phone", "printer", "tv", "speaker", "console", "camera", "light", "plug", "sensor",
    "thermostat", "lock", "vacuum", "appliance", "energy", "hub", "other",
)  # fmt: skip
"""Values of `kind`, as in netscand/protocol.py; docs/kinds.md explains each."""

MORE_EXACT = {"computer": ("laptop", "server", "nas", "virtual_machine"), "server": ("nas", "virtual_machine")}
"""Kind → more specific kinds of the same devices."""


def rows(table: str) -> Iterator[tuple[str, str]]:
    """Yield each piece of evidence of a table with its kind: (evidence, kind)."""
    for line in table.splitlines():
        kind, colon, evidence = line.partition(": ")
        for each in evidence.split("; ") if colon else ():
            yield each, kind


@cache
def by_evidence(table: str) -> dict[str, str]:
    """Return a table as a dictionary: evidence → kind."""
    return dict(rows(table))


@cache
def by_key() -> dict[str, list[tuple[str, str, str]]]:
    """Return TXT by its keys: (type of the service, beginning of the value, kind)."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for evidence, kind in rows(TXT):
        of, _, entry = evidence.partition(" ")
        key, _, start = entry.partition("=")
        found.setdefault(key, []).append((of, start, kind))
    return found


def find_start(table: str, text: str) -> str | None:
    """Return the kind of the longest evidence that a text begins with."""
    found = [each for each in by_evidence(table) if text.startswith(each)]
    return by_evidence(table)[max(found, key=len)] if found else None


# ---- mDNS service types --------------------------------------------------------------------------------------------
# Sources: the registry of service names of the IANA; the DNS-SD documentation of the makers; for printers, the Bonjour
# Printing Specification and Mopria eSCL.

SERVICES = r"""
access_point: _airport._tcp
computer: _rfb._tcp; _odisk._tcp; _teamviewer._tcp; _nvstream_dbd._tcp; _dosvc._tcp
server: _home-assistant._tcp; _plexmediasvr._tcp
nas: _qdiscover._tcp; _readynas._tcp
printer: _ipp._tcp; _ipps._tcp; _printer._tcp; _pdl-datastream._tcp; _uscan._tcp; _uscans._tcp; _scanner._tcp
printer: _fax-ipp._tcp
tv: _androidtvremote._tcp; _androidtvremote2._tcp; _viziocast._tcp; _appletv-v2._tcp; _mediaremotetv._tcp
tv: _tivo-remote._tcp; _tivo-device._tcp; _amzn-wplay._tcp; _lg-smart-device._tcp; _philipstv_rpc._tcp
tv: _philipstv_s_rpc._tcp
speaker: _sonos._tcp; _soundtouch._tcp; _heos-audio._tcp; _musc._tcp; _musp._tcp; _bangolufsen._tcp; _beoremote._tcp
speaker: _linkplay._tcp; _stream-magic._tcp; _smoip._tcp; _devialet-http._tcp
camera: _axis-video._tcp; _psia._tcp; _rtsp._tcp; _axis-nvr._tcp
light: _wled._tcp; _elg._tcp; _nanoleafapi._tcp; _nanoleafms._tcp; _lifx._tcp
thermostat: _ecobee._tcp
vacuum: _360eye_mqtt._tcp
appliance: _dkapi._tcp; _mieleathome._tcp; _homeconnect._tcp; _dyson_mqtt._tcp
energy: _enphase-envoy._tcp; _hwenergy._tcp
hub: _hue._tcp; _leap._tcp; _lutron._tcp; _bond._tcp; _kizbox._tcp; _kizboxdev._tcp; _plugwise._tcp; _powerview._tcp
hub: _powerview-g3._tcp; _xzg._tcp; _slzb-06._tcp; _czc._tcp; _zigate-zigbee-gateway._tcp
"""

NOT_PRINTERS = frozenset([
    "_workstation._tcp", "_sftp-ssh._tcp", "_udisks-ssh._tcp", "_afpovertcp._tcp", "_airport._tcp", "_rfb._tcp",
    "_home-assistant._tcp", "_companion-link._tcp", "_adisk._tcp",
])  # fmt: skip
"""Services of computers and routers, which share the printers of others."""

QUEUE = ("printers/", "/printers/")
"""Beginning of the path (`rp`) of a print queue of CUPS."""

# ---- models in TXT records -----------------------------------------------------------------------------------------
# Service type (`*`: any), key, beginning of the value in lower case. Sources: Apple's identifiers of models; AirPlay 2
# of other makers, some of which make only speakers or TVs; Google Cast; Synology; Fronius; Sonoff; Shelly.

TXT = r"""
laptop: * model=macbook
computer: * model=imac
computer: * model=macmini
computer: * model=macpro
computer: * model=mac1
computer: * model=mac2
tv: * model=appletv
speaker: * model=audioaccessory
phone: * model=iphone
tablet: * model=ipad
watch: * model=watch
access_point: * model=airport
tv: _raop._tcp am=appletv
speaker: _raop._tcp am=audioaccessory
laptop: _raop._tcp am=macbook
computer: _raop._tcp am=imac
computer: _raop._tcp am=macmini
computer: _raop._tcp am=mac1
phone: _companion-link._tcp rpmd=iphone
tablet: _companion-link._tcp rpmd=ipad
laptop: _companion-link._tcp rpmd=macbook
tv: _companion-link._tcp rpmd=appletv
speaker: _companion-link._tcp rpmd=audioaccessory
watch: _companion-link._tcp rpmd=watch
computer: _companion-link._tcp rpmd=imac
computer: _companion-link._tcp rpmd=macmini
computer: _companion-link._tcp rpmd=mac1
speaker: _airplay._tcp manufacturer=sonos
speaker: _airplay._tcp manufacturer=bose
speaker: _airplay._tcp manufacturer=bang
speaker: _airplay._tcp manufacturer=denon
speaker: _airplay._tcp manufacturer=marantz
speaker: _airplay._tcp manufacturer=yamaha
tv: _airplay._tcp manufacturer=lg
tv: _airplay._tcp manufacturer=vizio
tv: _airplay._tcp manufacturer=roku
tv: _airplay._tcp manufacturer=sony
tv: _airplay._tcp manufacturer=samsung
speaker: _googlecast._tcp md=chromecast audio
tv: _googlecast._tcp md=chromecast
speaker: _googlecast._tcp md=google home
speaker: _googlecast._tcp md=google nest mini
speaker: _googlecast._tcp md=nest audio
speaker: _googlecast._tcp md=google nest hub
tv: _googlecast._tcp md=google tv
tv: _googlecast._tcp md=bravia
tv: _googlecast._tcp md=shield android
tv: _googlecast._tcp md=mibox
nas: _http._tcp vendor=synology
nas: _smb._tcp vendor=synology
nas: _device-info._tcp model=ds2
energy: _http._tcp devicetype=wattpilot
plug: _ewelink._tcp type=plug
plug: _ewelink._tcp type=diy_plug
plug: _ewelink._tcp type=strip
light: _ewelink._tcp type=light
plug: _shelly._tcp app=plug
light: _shelly._tcp app=dimmer
sensor: _shelly._tcp app=ht
energy: _shelly._tcp app=pro3em
energy: _shelly._tcp app=proem
"""

NOT_NAS = ("rt", "mr", "wrx")
"""Models of Synology that are routers."""

HOMEKIT = r"""
router: 33
access_point: 16
tv: 24; 31; 35; 36
speaker: 25; 26; 34
camera: 17; 18
light: 5
plug: 7; 8
sensor: 10
thermostat: 9
lock: 6
appliance: 3; 19; 20; 21; 22; 23; 28
hub: 2
"""
"""Category (`ci` of `_hap._tcp`; HomeKit Accessory Protocol, Accessory Categories)."""

HOMEKIT_SOFTWARE = (
    "homebridge", "hass", "home assistant", "openhab", "scrypted", "iobroker", "mqtt", "node-red",
)  # fmt: skip
"""Beginnings of the model (`md`) of accessories in software: the device is the computer that it runs on."""

MATTER = r"""
tv: 35
speaker: 34
light: 256; 257; 268; 269
plug: 266; 267
sensor: 21; 44; 118; 262; 263; 770; 773; 774; 775
thermostat: 769
lock: 10
vacuum: 116
appliance: 45; 112; 114; 115; 117; 119; 120; 121; 122
energy: 1292
hub: 14
"""
"""Device type (`DT` of `_matterc._udp`, decimal; Matter Device Library)."""

# ---- DHCP vendor classes (option 60) -------------------------------------------------------------------------------
# Beginning in lower case. Sources: the manuals of the makers about options 60 and 43.

DHCP = r"""
access_point: cisco ap ; arubaap; arubainstantap; ruckus cpe; aerohive ap; motorolaap; mistap; ubnt.uap
computer: msft 5.0; msft 98; aaplbsdpc
voip_phone: cisco systems, inc. ip phone; cisco systems inc. wireless phone; yealink; snom; polycom; ccp.avaya.com
voip_phone: fanvil; mitel ip phone; aastraipphone; grandstream gxp; grandstream grp; nortel-i2004; shoretel ip phone
voip_phone: gigaset; yeastar; poly-vvx; digium_d; ipphone.mitel.com
printer: hewlett-packard jetdirect; lexmark; xerox; brother; epson; kyocera; ricoh
printer: canon ir-adv; canon d1600; zebra technologies ztc
tv: roku/; roku
console: ps4; ps5; xbox; msft 5.0 xbox; nintendo
sensor: withings
"""

DHCP_WORDS = r"""
printer: printer; mfp; laserjet; officejet
camera: network camera
voip_phone: ip phone
"""
"""Words anywhere in a vendor class by which a device says itself what it is, as in `Mfg=DELL;Typ=Printer;Mod=…`. A
maker of several kinds (Canon, Dell, Meraki, Zebra) says it only by such a word or the name of a series."""

MACOS = bytes((1, 121, 3, 6, 15)), bytes((95, 44, 46))
"""Beginning and end of the parameters (option 55) that macOS requests; iOS requests them without the last three.
Source: android.pcap and iphone.pcap of nDPI's tests."""

# ---- host names ----------------------------------------------------------------------------------------------------
# Text within the first label in lower case (`*`: any), and a regular expression on all of it, which is compiled only
# once the text is found: names that a maker gives by default, and others do not use.

HOST_NAMES = r"""
phone: iphone (.*-)?iphone(-.*|\d*)
tablet: ipad (.*-)?ipad(-.*|\d*)
laptop: * (.*-)?(macbook|mbp|mba)(-?(pro|air))?(-.*|\d*)
computer: imac (.*-)?imac(-.*|\d*)
computer: mac (.*-)?mac-?(mini|studio|pro)(-.*|\d*)
watch: apple (.*-)?apple-?watch(-.*)?
tv: apple (.*-)?apple-?tv(-.*|\d*)
speaker: homepod (.*-)?homepod(-.*|\d*)
tablet: galaxy-tab (.*-)?galaxy-tab.*
phone: galaxy- (.*-)?galaxy-(a|j|m|s|z|note|xcover|fold|flip).*
watch: galaxy-watch (.*-)?galaxy-watch.*
laptop: galaxy-book (.*-)?galaxy-book.*
phone: sm- sm-[agsnfmjz]\d{3}.*
tablet: sm- sm-[tpx]\d{3}.*
watch: sm-r sm-r\d{3}.*
tablet: pixel-tablet (.*-)?pixel-tablet(-.*)?
watch: pixel-watch (.*-)?pixel-watch.*
phone: pixel (.*-)?pixel-?\d+a?(-(pro|xl|a|fold).*)?(-\d+)?
phone: pixel-fold (.*-)?pixel-fold.*
phone: oneplus- oneplus-(\d+.*|nord.*)
phone: redmi- (.*-)?redmi-(note-)?\d+.*
tablet: redmi (.*-)?redmi-?pad.*
phone: poco- (.*-)?poco-[a-z]\d.*
phone: huawei_p huawei_p\d+.*
phone: huawei_mate huawei_mate_?\d+.*
tablet: huawei_matepad huawei_matepad.*
phone: moto- moto-[ge].*
phone: xperia- xperia-.*
phone: * (.*-)?(mi|xiaomi)-?\d+(t|-lite|-pro|-ultra|-t).*
computer: desktop- desktop-[a-z0-9]{7}
laptop: laptop- laptop-[a-z0-9]{8}
computer: win- win-[a-z0-9]{11}
printer: npi npi[0-9a-f]{6}
printer: hp hp[0-9a-f]{6}([0-9a-f]{6})?
printer: br br[nw][0-9a-f]{12}
printer: epson epson[0-9a-f]{6}
printer: canon canon[0-9a-f]{6}
printer: rnp rnp[0-9a-f]{12}
printer: xrx xrx[0-9a-f]{6,12}
printer: et et[0-9a-f]{12}
printer: km km[0-9a-f]{6}
printer: kmb kmbt?[0-9a-f]{6}
printer: sec sec[0-9a-f]{12}
tv: lgwebostv lgwebostv.*
tv: bravia bravia.*
speaker: chromecast-audio chromecast-audio.*
tv: chromecast chromecast.*
tv: roku roku-?(ultra|express|stick|tv|\d).*
tv: fire (amazon)?fire-?tv.*
tv: shield-android-tv shield-android-tv.*
tv: androidtv androidtv.*
speaker: sonos sonos.*
speaker: google google-?home(-.*)?
speaker: google-nest- google-nest-(mini|audio|hub).*
speaker: bose- bose-.*
speaker: denon-av denon-av.*
console: ps ps[345](-.*|[0-9a-f]+)?
console: playstation playstation.*
console: xbox xbox.*
console: nintendo nintendo.*
console: steamdeck steamdeck.*
router: fritz fritz[!.-]?box.*
access_point: repeater fritz[.-]?repeater.*
access_point: unifi unifi-?ap.*
access_point: uap- uap-.*
access_point: u u[67]-(lite|pro|lr|mesh|enterprise|plus|iw).*
router: speedport speedport.*
router: openwrt openwrt
access_point: deco- deco-.*
switch: usw- usw-.*
voip_phone: sep sep[0-9a-f]{12}
voip_phone: sip-t sip-t\d\d.*
voip_phone: polycom polycom.*
voip_phone: spa spa[0-9a-f]{12}
voip_phone: yealink yealink.*
nas: diskstation diskstation.*
nas: synology synology.*
nas: nas nas[0-9a-f]{6}
nas: readynas readynas.*
nas: mycloud mycloud.*
nas: nas (true|free)nas.*
computer: raspberrypi raspberrypi.*
server: assistant home-?assistant
server: * (proxmox|pve)\d*
plug: shellyplug shellyplug.*
plug: shelly shelly(plus)?plug.*
plug: shelly shelly((plus|pro)?[124](pm|l)?|25|1mini|1pmmini)(g3|g4)?-.*
light: shelly shelly(bulb|vintage|colorbulb|dimmer|dimmer2|rgbw2|plusrgbwpm|duo).*
sensor: shelly shelly(ht|plusht|flood|motion|dw|dw2|smoke|plussmoke|gas|htg3).*
energy: shelly shelly(em|em3|3em|pro3em|proem50|pmmini)(g3)?-.*
thermostat: shellytrv shellytrv.*
light: wled- wled-.*
hub: philips-hue philips-hue
light: yeelink-light- yeelink-light-.*
light: wiz_ wiz_.*
light: lifx- lifx-.*
hub: lightify- lightify-.*
light: nanoleaf- nanoleaf-.*
light: elgato-key-light elgato-key-light.*
plug: * (hs1[01]\d|kp1\d\d|ep\d\d|p1[01]\d|hs300|kp303|tp25)(\(.*\))?(-.*)?
light: * (kl\d{2,3}[a-z]?|lb[12]\d\d|l5[13]0|l9[0-3]0)(\(.*\))?([-_].*)?
vacuum: -vacuum- (roborock|rockrobo)-vacuum-.*
vacuum: - (roomba|irobot)-.*
vacuum: dreame dreame[-_.]vacuum.*
plug: chuangmi-plug chuangmi-plug.*
camera: -camera (chuangmi|isa)-camera.*
appliance: zhimi- zhimi-(airpurifier|fan|humidifier).*
hub: lumi-gateway lumi-gateway.*
camera: dcs- dcs-\d{3}.*
plug: dsp-w dsp-w\d{3}.*
camera: axis- axis-[0-9a-f]{12}
camera: ipc ipc([-_].*)?
camera: reolink reolink.*
camera: wyze wyze-?cam.*
camera: tapo tapo_?c\d{3}.*
camera: c c[12]\d\d_.*
thermostat: ecobee ecobee.*
energy: envoy envoy
energy: * solaredge.*|solarnet.*
energy: wattpilot wattpilot.*
energy: openevse openevse.*
appliance: - (bosch|siemens|neff)-.*-\d{15,}
appliance: dyson- dyson-.*
"""

# ---- vendors -------------------------------------------------------------------------------------------------------
# Beginning of the name in lower case: only of companies whose devices on a LAN are nearly all of one kind.

VENDORS = r"""
access_point: aerohive; ruckus; eero
computer: raspberry pi
nas: synology; asustor
voip_phone: yealink; snom tech; polycom; fanvil
printer: brother industries; lexmark; kyocera document; ricoh company; oki electric
tv: roku; vizio; tivo
speaker: sonos; bose corp; bang & olufsen; devialet; d&m holdings; denon
console: nintendo; sony interactive; sony computer entertainment; valve corporation
camera: axis communications; hangzhou hikvision; zhejiang dahua; amcrest; reolink; foscam; shenzhen reecam; arlo tech
camera: mobotix; vivotek
light: lifi labs; lifx; nanoleaf; qingdao yeelink; wiz connected
thermostat: ecobee; resideo
lock: schlage; august home; nuki
vacuum: irobot; beijing roborock; roborock; ecovacs; neato robotics
appliance: miele; bsh haus; whirlpool; dyson; daikin
energy: enphase; solaredge; sma solar; fronius; american power conv
hub: tado; lutron
"""

# ---- MAC prefixes --------------------------------------------------------------------------------------------------
# Of hypervisors and container engines: their documentation, and the registry of the IEEE.

MACS = {
    b"\x00\x05\x69": ("virtual_machine", "VMware"), b"\x00\x0c\x29": ("virtual_machine", "VMware"),
    b"\x00\x50\x56": ("virtual_machine", "VMware"), b"\x00\x1c\x14": ("virtual_machine", "VMware"),
    b"\x00\x15\x5d": ("virtual_machine", "Hyper-V"), b"\x00\x16\x3e": ("virtual_machine", "Xen"),
    b"\x00\x1c\x42": ("virtual_machine", "Parallels"), b"\x08\x00\x27": ("virtual_machine", "VirtualBox"),
    b"\x52\x54\x00": ("virtual_machine", "QEMU"), b"\x02\x42\xac": ("container", "Docker"),
}  # fmt: skip
"""Docker derives the rest of the MAC of a container from its address, which is in 172.16.0.0/12 by default."""
